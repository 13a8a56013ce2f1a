import type { CompiledPeerAuthentication } from '../translate/peer-authentication.ts';
import type { Collection } from './collection.ts';
import type { Labels } from './matches.ts';
import { bySelector, Matches } from './matches.ts';
import { Oldest } from './oldest.ts';

/** How the PeerAuthentications that hold for a workload are found. */
export interface PeerFinders {
  /** By namespace, of those that are for all of it; in the root namespace for the mesh. */
  readonly wide: Oldest<CompiledPeerAuthentication>;
  /** Those of a namespace that select workloads. */
  readonly selecting: Matches<CompiledPeerAuthentication, Labels>;
}

export function peerFinders(peer: Collection<CompiledPeerAuthentication>): PeerFinders {
  return {
    wide: new Oldest(peer, {
      claims: ({ scope, namespace }) => (scope === 'workload' ? [] : [namespace]),
      createdAtMs: ({ createdAtMs }) => createdAtMs,
    }),
    selecting: new Matches(
      peer,
      bySelector<CompiledPeerAuthentication>({
        scope: ({ scope, namespace }) => (scope === 'workload' ? namespace : undefined),
        selector: ({ selector }) => selector,
      }),
    ),
  };
}

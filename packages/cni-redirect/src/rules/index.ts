import type { IpFamily } from '@ambit/api';
import type { PodCapture } from './plan.ts';
import { defaultCapture, planPodRules } from './plan.ts';
import { renderTable, renderTableRemoval } from './render.ts';
import { renderRouting, renderRoutingRemoval } from './routing.ts';

export type { PodCapture } from './plan.ts';
export { defaultCapture } from './plan.ts';

/** What is to be run in a pod's network namespace: one `nft -f -` and one `ip -force -batch -` for each family. */
export interface PodScripts {
  readonly nft: string;
  readonly routing: readonly RoutingScript[];
}

export interface RoutingScript {
  readonly family: IpFamily;
  /** Lines for `ip -4 -force -batch -` or `ip -6 -force -batch -`; what is there already may fail. */
  readonly batch: string;
  /** What the output holds when the script has done its work; empty where there is nothing to see. */
  readonly expects: readonly RegExp[];
  /** False where the pod has no address of the family: the script may then fail. */
  readonly required: boolean;
}

/** The rules that let no connection begin, put in place before a new pod's capture is made. */
export function renderClosedRules(pod: PodCapture): PodScripts {
  return { nft: renderTable(planPodRules(pod, 'closed')), routing: [] };
}

/** The rules that capture a pod: idempotent, and applying them again keeps open connections. */
export function renderPodRules(pod: PodCapture): PodScripts {
  return {
    nft: renderTable(planPodRules(pod, 'captured')),
    routing: renderRouting(pod.families),
  };
}

/**
 * Leaving the mesh in two phases: `drain` takes no new connection and keeps those that were redirected, `delete` removes
 * everything once they have ended.
 */
export function renderRemoval(phase: 'drain' | 'delete'): PodScripts {
  if (phase === 'drain')
    return { nft: renderTable(planPodRules(defaultCapture, 'draining')), routing: [] };
  return { nft: renderTableRemoval(), routing: renderRoutingRemoval() };
}

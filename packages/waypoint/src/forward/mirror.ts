import type { Mirror, Target } from '@ambit/api';
import type { WaypointContext } from '../context.ts';
import type { RequestHead } from '../http/message.ts';
import type { UpstreamCluster } from './cluster.ts';
import type { Client, EndpointHost, UpstreamProtocol } from './endpoint.ts';
import { Try, lookingOn } from './try.ts';

/** A request that has ended, of which copies are to be sent. */
export interface Mirrored {
  /** Whether the policies of whom a copy is for let it in. */
  readonly allows: (target: Target) => boolean;
  readonly head: RequestHead;
  readonly hasBody: boolean;
  /** Undefined where it was too long to be kept. */
  readonly body: readonly Buffer[] | undefined;
  readonly client: Client;
  readonly protocol: (cluster: UpstreamCluster) => UpstreamProtocol;
  readonly timeoutMs: number | undefined;
}

const shadowTimeoutMs = 15_000;

/** Sends copies to who is to look on; their answers are nobody's business. */
export function sendCopies(
  { random, clusters, metrics }: Pick<WaypointContext, 'random' | 'clusters' | 'metrics'>,
  mirrors: readonly Mirror[],
  request: Mirrored,
): void {
  for (const { target, percentage } of mirrors) {
    if (target.kind !== 'service' || random() * 100 >= percentage) continue;
    const cluster = clusters.find(target);
    if (cluster === undefined) continue;
    if (request.body === undefined || !request.allows(target)) {
      metrics.mirrorSkipped(cluster.name);
      continue;
    }
    const host = hostForCopy(cluster, random);
    if (host !== undefined) sendCopy(request, request.body, { cluster, host });
  }
}

function sendCopy(
  { head, hasBody, client, protocol, timeoutMs }: Mirrored,
  body: readonly Buffer[],
  { cluster, host }: { readonly cluster: UpstreamCluster; readonly host: EndpointHost },
): void {
  const authority = head.authority.replace(/(:\d{1,5})?$/, '-shadow$1');
  const copy = new Try(lookingOn, {
    host,
    cluster,
    head: { ...head, authority, headers: head.headers.clone() },
    // No certificate is for the name with `-shadow`.
    serverAuthority: head.authority,
    hasBody,
    client,
    protocol: protocol(cluster),
    // A route without a timeout says so of its own answer; nobody waits for this one.
    perTryTimeoutMs: timeoutMs === undefined || timeoutMs === 0 ? shadowTimeoutMs : timeoutMs,
    body: [...body],
    timesAnswer: true,
  });
  copy.start();
  copy.startTimer();
}

/** Copies never take the place of real requests. */
function hostForCopy(cluster: UpstreamCluster, random: () => number): EndpointHost | undefined {
  const { maxRequests } = cluster.settings.pool;
  if (maxRequests !== undefined && cluster.requests >= maxRequests) return undefined;
  return cluster.pick({ random, nowMs: performance.now(), hash: undefined, exclude: noneTried });
}

const noneTried: ReadonlySet<string> = new Set();

import type { KubeClient } from '../kube/client.ts';
import { KubeError } from '../kube/error.ts';
import type { Lease } from './lease.ts';

/**
 * The API for what must have one writer: reads as ever, and writes in a term only. A write that is under way when the
 * term ends is given up.
 */
export function fencedClient(client: KubeClient, lease: Pick<Lease, 'term'>): KubeClient {
  return {
    ...client,
    request: async (request) => {
      if ((request.method ?? 'GET') === 'GET') return client.request(request);
      const term = lease.term();
      if (term === undefined) {
        const what = `${request.method ?? ''} ${request.path}`;
        throw new KubeError(`${what}: not sent, another controller writes now`, {});
      }
      const signals = request.signal === undefined ? [] : [request.signal];
      return client.request({ ...request, signal: AbortSignal.any([...signals, term.signal]) });
    },
  };
}

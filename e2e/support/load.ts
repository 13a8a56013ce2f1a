import type { MeshCluster } from './cluster.ts';

/** What became of the requests of ten callers, some of which keep their connections; see load.mjs. */
export interface Totals {
  readonly ok: number;
  readonly failed: number;
  readonly longestMs: number;
  readonly errors: readonly string[];
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Sends requests from the client's pod while `work` goes on, and for half a second more. */
export async function underLoad(
  mesh: MeshCluster,
  url: string,
  work: () => Promise<void>,
  limitSeconds = 90,
): Promise<Totals> {
  const stopFile = `/tmp/load-over-${Math.random()}`;
  const client = await mesh.pod('clients', { app: 'client' });
  const done = mesh.script(client, 'e2e/support/load.mjs', url, stopFile, String(limitSeconds));
  await sleep(1_000);
  await work();
  await sleep(500);
  await mesh.cluster.exec(client.namespace, client.name, ['touch', stopFile]);
  return JSON.parse(await done) as Totals;
}

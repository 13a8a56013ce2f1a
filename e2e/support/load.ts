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

export interface LoadOptions {
  readonly limitSeconds?: number;
  /** So many requests a second, each on a connection of its own, instead of ten callers that wait for their answers. */
  readonly perSecond?: number;
}

/** Sends requests from the client's pod while `work` goes on, and for half a second more. */
export async function underLoad(
  mesh: MeshCluster,
  url: string,
  work: () => Promise<void>,
  { limitSeconds = 90, perSecond }: LoadOptions = {},
): Promise<Totals> {
  const stopFile = `/tmp/load-over-${Math.random()}`;
  const client = await mesh.pod('clients', { app: 'client' });
  const rate = perSecond === undefined ? [] : [String(perSecond)];
  const args = [url, stopFile, String(limitSeconds), ...rate];
  const done = mesh.script(client, 'e2e/support/load.mjs', ...args);
  await sleep(1_000);
  await work();
  await sleep(500);
  await mesh.cluster.exec(client.namespace, client.name, ['touch', stopFile]);
  return JSON.parse(await done) as Totals;
}

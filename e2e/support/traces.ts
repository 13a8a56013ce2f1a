import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { until } from './mesh-cluster.ts';
import { clusterName } from './wire.ts';

const script = join(fileURLToPath(new URL('../..', import.meta.url)), 'e2e/cluster/traces.mjs');

/** What of the mesh is in a cluster and, where the nodes are on this machine, on them; see e2e/cluster/traces.mjs. */
export async function tracesOfMesh(kubeconfig: string): Promise<string[]> {
  const args = [script, kubeconfig, ...(clusterName === undefined ? [] : ['--nodes'])];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 64 << 20 });
  return stdout.split('\n').filter((line) => line !== '');
}

/** Until nothing of the mesh is left but what docs/install.md names; what has an owner goes a moment after it. */
export async function untilNoTrace(kubeconfig: string): Promise<void> {
  let left: readonly string[] = [];
  await until(async () => {
    left = await tracesOfMesh(kubeconfig);
    return left.length === 0 || undefined;
  }, 60_000).catch((error: unknown) => {
    throw new Error(`left behind:\n${left.join('\n')}`, { cause: error });
  });
}

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { clusterName } from './wire.ts';

const script = join(fileURLToPath(new URL('../..', import.meta.url)), 'e2e/cluster/traces.mjs');

/** What of the mesh is in a cluster and, where the nodes are on this machine, on them; see e2e/cluster/traces.mjs. */
export async function tracesOfMesh(kubeconfig: string): Promise<string[]> {
  const args = [script, kubeconfig, ...(clusterName === undefined ? [] : ['--nodes'])];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 64 << 20 });
  return stdout.split('\n').filter((line) => line !== '');
}

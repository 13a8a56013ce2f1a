import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createKubeClient } from '@ambit/controller';
import { startSandbox } from '@ambit/sandbox';
import { KubeConfig } from '@kubernetes/client-node';
import type { MeshCluster } from './mesh-cluster.ts';
import { meshOn } from './mesh-cluster.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** A cluster of this machine alone, started for one suite. */
export async function startMeshSandbox(): Promise<MeshCluster> {
  const sandbox = await startSandbox(
    { root, tour: false, samples: true, verbose: false },
    async (_text, work) => work(),
  );
  const directory = mkdtempSync(join(tmpdir(), 'ambit-e2e-'));
  const kubeconfig = join(directory, 'kubeconfig');
  writeFileSync(kubeconfig, sandbox.kubeconfig('https://127.0.0.1:6443'));
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const client = createKubeClient(config);
  return meshOn({
    kind: 'sandbox',
    hands: sandbox.tour,
    kubeconfig,
    client,
    async close() {
      client.close();
      await sandbox.close();
      rmSync(directory, { recursive: true, force: true });
    },
  });
}

// Puts the mesh into the cluster as a user does: the Gateway API's own resources, then the chart.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { root } from '../../scripts/lib/ensure.mjs';
import { fetchTool } from '../../scripts/lib/layer.mjs';
import { paths } from './layout.mjs';
import { run } from './process.mjs';
import { tracesInCluster, tracesOnNodes } from './traces.mjs';

export const gatewayApi = 'sigs.k8s.io/gateway-api@v1.6.3';
const namespace = 'istio-system';

const kubectl = (...args) => run(fetchTool('kubectl'), ['--kubeconfig', paths.kubeconfig, ...args]);
const helm = (...args) => run(fetchTool('helm'), ['--kubeconfig', paths.kubeconfig, ...args]);

export function install() {
  const { Dir: folder } = JSON.parse(run('go', ['mod', 'download', '-json', gatewayApi]));
  const crds = join(folder, 'config/crd/experimental');
  const files = readdirSync(crds).filter((name) => /^gateway\..*\.yaml$/.test(name));
  const text = files.map((name) => readFileSync(join(crds, name), 'utf8')).join('\n---\n');
  run(
    fetchTool('kubectl'),
    ['--kubeconfig', paths.kubeconfig, 'apply', '--server-side', '-f', '-'],
    { input: text },
  );
  const chart = join(root, 'charts/ambit');
  helm(
    'upgrade',
    '--install',
    'ambit',
    chart,
    '-n',
    namespace,
    '--create-namespace',
    '--wait',
    '--timeout',
    '5m',
  );
}

/** @returns what the mesh left in the cluster and on its nodes */
export async function uninstall() {
  helm('uninstall', 'ambit', '-n', namespace, '--wait', '--timeout', '5m');
  kubectl('delete', 'namespace', namespace, '--ignore-not-found', '--timeout=2m');
  // What is collected after its owner goes a moment later.
  for (let round = 0; ; round += 1) {
    const left = [...tracesInCluster(paths.kubeconfig), ...tracesOnNodes()];
    if (left.length === 0 || round === 10) return left;
    await sleep(2_000);
  }
}

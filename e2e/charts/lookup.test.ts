import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import type { TestApi } from '../../packages/sandbox/test/support/api-server.ts';
import { startTestApi } from '../../packages/sandbox/test/support/api-server.ts';
import type { Kubectl } from '../../packages/sandbox/test/support/kubectl.ts';
import { createKubectl, kubectlPath } from '../../packages/sandbox/test/support/kubectl.ts';
import type { Chart } from './helm.ts';
import { helmPath, namespace, render, root } from './helm.ts';

/** What helm asks a cluster before it installs, held against an API server. */
let running: TestApi;
let kubectl: Kubectl;
const home = mkdtempSync(join(tmpdir(), 'ambit-helm-'));
const kubeconfig = join(home, 'config');

beforeAll(async () => {
  running = await startTestApi();
  const { server, ca, api } = running;
  const token = api.tokens.adminToken;
  kubectl = createKubectl(kubectlPath('1.34'), { server, ca, token });
  for (const one of ['kube-system', namespace]) await kubectl.out(['create', 'namespace', one]);
  const cluster = { server, 'certificate-authority-data': Buffer.from(ca).toString('base64') };
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'c', cluster }],
    users: [{ name: 'u', user: { token } }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'x',
  };
  writeFileSync(kubeconfig, JSON.stringify(config), { mode: 0o600 });
}, 60_000);

afterAll(async () => {
  kubectl.close();
  rmSync(home, { recursive: true });
  await running.api.close();
});

/** What `helm install` of a chart, the definitions', would do; the cluster is asked, and nothing is changed. */
async function install(
  values: Readonly<Record<string, unknown>>,
  chart: Chart = 'base',
): Promise<string> {
  const sets = Object.entries(values).flatMap(([path, value]) => [
    '--set-json',
    `${path}=${JSON.stringify(value)}`,
  ]);
  const where = ['--kubeconfig', kubeconfig, '-n', namespace, '--dry-run=server'];
  const words = ['install', chart, join(root, 'charts', chart), ...where, ...sets];
  return promisify(execFile)(helmPath(), words, { maxBuffer: 64 << 20 }).then(
    ({ stdout }) => stdout,
    (error: unknown) => (error as { readonly stderr: string }).stderr,
  );
}

const left = 'virtualservices.networking.istio.io';

test('definitions of Istio that are left out have to be in the cluster', async () => {
  expect(await install({})).toContain(`name: ${left}`);
  expect(await install({ excludedCRDs: [left] })).toMatch(
    /excludedCRDs: the definition virtualservices\.networking\.istio\.io is left out, and the cluster has none/,
  );
  expect(await install({ enableCRDTemplates: false })).toMatch(
    /enableCRDTemplates: the definition \S+ is left out, and the cluster has none, .*; install it first/,
  );
  // Of ours nobody waits.
  expect(await install({ excludedCRDs: ['ratelimitpolicies.ambit.dev'] })).toContain(left);
  const definitions = render('base').filter(({ kind }) => kind === 'CustomResourceDefinition');
  const manifest = definitions.map((one) => stringify(one)).join('---\n');
  await kubectl.out(['apply', '--server-side', '-f', '-'], manifest);
  for (const values of [{ excludedCRDs: [left] }, { enableCRDTemplates: false }])
    expect(await install(values)).toContain('STATUS: pending-install');
}, 60_000);

test('one of an Istio that is too old is told, with what brings it up to date', async () => {
  const served = (...names: readonly string[]) =>
    kubectl.out([
      'patch',
      'crd',
      left,
      '--type=json',
      '-p',
      JSON.stringify(
        ['v1', 'v1beta1', 'v1alpha3'].map((name, index) => ({
          op: 'replace',
          path: `/spec/versions/${index}/served`,
          value: names.includes(name),
        })),
      ),
    ]);
  await served('v1beta1', 'v1alpha3');
  const said = await install({});
  expect(said).toContain(
    `these definitions of the cluster are of an older version of Istio, without the version that the controller reads (v1): ${left}. Apply those of`,
  );
  expect(said).toContain(`kubectl annotate crd ${left} --overwrite meta.helm.sh/release-name=base`);
  // What is this release's is brought up to date by it.
  const own = { name: 'base', namespace };
  for (const [key, value] of Object.entries(own))
    await kubectl.out(['annotate', 'crd', left, `meta.helm.sh/release-${key}=${value}`]);
  expect(await install({})).toContain(`name: ${left}`);
  for (const key of Object.keys(own))
    await kubectl.out(['annotate', 'crd', left, `meta.helm.sh/release-${key}-`]);
  await served('v1', 'v1beta1', 'v1alpha3');
  expect(await install({})).toContain('STATUS: pending-install');
}, 60_000);

test.each([
  [{ app: 'ztunnel' }, 'ztunnel-canary'],
  [{ 'k8s-app': 'istio-cni-node' }, 'istio-cni-canary'],
])('a node proxy or agent of another mesh is known by its labels %j, too', async (labels, name) => {
  const template = {
    metadata: { labels: { app: name } },
    spec: { containers: [{ name: 'a', image: 'none.example/none' }] },
  };
  const set = {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name, namespace: 'kube-system', labels },
    spec: { selector: { matchLabels: { app: name } }, template },
  };
  await kubectl.out(['apply', '-f', '-'], stringify(set));
  expect(await install({})).toMatch(
    `another mesh is here: DaemonSet kube-system/${name} redirects the pods of this cluster`,
  );
  await kubectl.out(['delete', 'daemonset', name, '-n', 'kube-system']);
  expect(await install({})).toContain('STATUS: pending-install');
}, 60_000);

test.each<readonly [Chart, string, string]>([
  ['controller', 'serviceMonitor', 'ServiceMonitor'],
  ['ztunnel', 'podMonitor', 'PodMonitor'],
  ['cni-redirect', 'podMonitor', 'PodMonitor'],
])('%s: what the Prometheus operator has not defined is not asked of it', async (chart, value, kind) => {
  expect(await install({ [`${value}.enabled`]: true }, chart)).toMatch(
    `${value}.enabled: the cluster has no definition of ${kind}; install the Prometheus operator first`,
  );
}, 60_000);

test('a node agent that keeps ports of its node is replaced, and none is put beside it', async () => {
  const template = (ports: readonly object[]) => ({
    metadata: { labels: { app: 'cni-redirect' } },
    spec: { containers: [{ name: 'agent', image: 'none.example/none', ports }] },
  });
  const set = (ports: readonly object[]) => ({
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: {
      name: 'cni-redirect',
      namespace,
      labels: { 'app.kubernetes.io/part-of': 'ambit' },
      annotations: { 'meta.helm.sh/release-namespace': namespace },
    },
    spec: { selector: { matchLabels: { app: 'cni-redirect' } }, template: template(ports) },
  });
  const refused = /for this upgrade set updateStrategy\.rollingUpdate\.maxSurge=0 and maxUnavailable=1/;
  await kubectl.out(['apply', '-f', '-'], stringify(set([{ containerPort: 8000 }])));
  expect(await install({}, 'cni-redirect')).toMatch(refused);
  const rollingUpdate = { maxSurge: 0, maxUnavailable: 1 };
  const said = await install({ 'updateStrategy.rollingUpdate': rollingUpdate }, 'cni-redirect');
  expect(said).not.toMatch(refused);
  await kubectl.out(['delete', 'daemonset', 'cni-redirect', '-n', namespace]);
  await kubectl.out(['apply', '-f', '-'], stringify(set([])));
  expect(await install({}, 'cni-redirect')).not.toMatch(refused);
  await kubectl.out(['delete', 'daemonset', 'cni-redirect', '-n', namespace]);
}, 60_000);

test.each(['ztunnel', 'cni-redirect'] as const)(
  '%s: a namespace whose Pod Security admits none of its pods is told, with what admits them',
  async (chart) => {
    const label = 'pod-security.kubernetes.io/enforce';
    for (const level of ['baseline', 'restricted']) {
      await kubectl.out(['label', 'namespace', namespace, '--overwrite', `${label}=${level}`]);
      const said = await install({}, chart);
      expect(said).toContain(`namespace ${namespace} admits pods of Pod Security ${level} only`);
      expect(said).toContain(`kubectl label namespace ${namespace} ${label}=privileged --overwrite`);
    }
    await kubectl.out(['label', 'namespace', namespace, '--overwrite', `${label}=privileged`]);
    expect(await install({}, chart)).not.toContain('Pod Security');
    await kubectl.out(['label', 'namespace', namespace, `${label}-`]);
  },
  60_000,
);

import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import type { Chart, KubeObject } from '../charts/helm.ts';
import { render, root } from '../charts/helm.ts';

/** What the charts render, held against a real API server: schemas, validation, admission, and what CEL it compiles. */
const kubeconfig = process.env['KUBECONFIG'];
let kubectl = '';

beforeAll(() => {
  const script = join(root, 'scripts/kubectl.mjs');
  kubectl = execFileSync(process.execPath, [script], { encoding: 'utf8' }).trim();
}, 60_000);

/** Nothing is changed; conflicts are those with the mesh that is installed. */
function dryRun(objects: readonly KubeObject[]) {
  const how = ['--server-side', '--force-conflicts', '--dry-run=server', '--validate=strict'];
  const done = spawnSync(kubectl, ['--kubeconfig', kubeconfig ?? '', 'apply', ...how, '-f', '-'], {
    input: objects.map((object) => stringify(object, { lineWidth: 0 })).join('---\n'),
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  });
  return { code: done.status, taken: done.stdout.trim().split('\n'), said: done.stderr };
}

const platforms = ['gke', 'openshift', 'k3s', 'k3d', 'microk8s', 'minikube'];
const spread = {
  maxSkew: 1,
  topologyKey: 'kubernetes.io/hostname',
  whenUnsatisfiable: 'ScheduleAnyway',
};

/** But for monitors of the Prometheus operator, whose definitions are not in every cluster. */
const everything = {
  'controller.autoscaleEnabled': true,
  'controller.meshConfig': { accessLogFile: '/dev/stdout' },
  'controller.trustDomainAliases': ['old.example'],
  'controller.servingNames': ['mesh.example'],
  'controller.uninstall.keepAuthority': true,
  'controller.topologySpreadConstraints': [spread],
  'controller.serviceAnnotations': { note: 'a' },
  'controller.podLabels': { team: 'mesh' },
  'controller.resourceQuotas.enabled': true,
  'ztunnel.resourceQuotas.enabled': true,
  'ztunnel.seLinuxOptions': { type: 'spc_t' },
  'ztunnel.env': { NODE_OPTIONS: '--max-old-space-size=512' },
  'cni-redirect.resourceQuotas.enabled': true,
  'cni-redirect.privileged': true,
  'cni-redirect.taint.enabled': true,
  'global.imagePullSecrets': ['registry'],
  'global.imagePullPolicy': 'IfNotPresent',
  'global.logAsJson': true,
};
const nothing = {
  'controller.podDisruptionBudget.enabled': false,
  'controller.webhook.enabled': false,
  'controller.networkPolicy.enabled': false,
  'controller.uninstall.enabled': false,
  'controller.credentials.allNamespaces': false,
  'ztunnel.networkPolicy.enabled': false,
  'ztunnel.stateDir': '',
  'controller.ownObjectsOnly': false,
  'cni-redirect.ownNodeOnly': false,
  'cni-redirect.uninstall.enabled': false,
};

const cases: readonly (readonly [string, Chart, Readonly<Record<string, unknown>>])[] = [
  ['the whole mesh as it comes', 'ambit', {}],
  ['with all that can be switched on', 'ambit', everything],
  ['with all that can be switched off', 'ambit', nothing],
  ...platforms.map((one) => [`for ${one}`, 'ambit', { 'global.platform': one }] as const),
  ['a gateway', 'gateway', {}],
  [
    'a gateway that scales',
    'gateway',
    { 'autoscaling.enabled': true, 'podDisruptionBudget.enabled': true },
  ],
];

describe('an API server takes without a warning', () => {
  test.each(cases)(
    '%s',
    (_name, chart, values) => {
      const objects = render(chart, { values });
      const { code, taken, said } = dryRun(objects);
      expect(said).toBe('');
      expect(taken).toHaveLength(objects.length);
      expect(code).toBe(0);
    },
    60_000,
  );
});

test.each<readonly [string, Chart, string, string]>([
  ['keeps an agent to its node', 'cni-redirect', 'ambit-cni-redirect', 'object.spec.nodeName'],
  ['keeps the controller to its own', 'controller', 'ambit-controller-deployed', 'owner.kind'],
  ['asks the webhook of no platform', 'controller', 'ambit-validator', 'request.namespace !='],
])(
  'it compiles the rule that %s',
  (_what, chart, name, part) => {
    const rules = render(chart).filter(
      (one) => one.metadata.name === name && JSON.stringify(one).includes(part),
    );
    expect(rules).toHaveLength(1);
    const text = JSON.stringify(rules).replace(part, `${part} ==`);
    const { code, said } = dryRun(JSON.parse(text) as KubeObject[]);
    expect(said).toMatch(/compilation failed/);
    expect(code).not.toBe(0);
  },
  60_000,
);

test('it refuses a field that it does not know', () => {
  const [gateway] = render('gateway');
  const wrong = { ...gateway, spec: { ...(gateway?.['spec'] as object), listener: [] } };
  const { code, said } = dryRun([wrong as KubeObject]);
  expect(said).toMatch(/spec\.listener/);
  expect(code).not.toBe(0);
}, 60_000);

describe('its definitions', () => {
  const route = (timeout: string) =>
    ({
      apiVersion: 'networking.istio.io/v1',
      kind: 'VirtualService',
      metadata: { name: 'a', namespace: 'default' },
      spec: { hosts: ['a'], http: [{ timeout, route: [{ destination: { host: 'a' } }] }] },
    }) as unknown as KubeObject;
  const rule = (trafficPolicy: object) =>
    ({
      apiVersion: 'networking.istio.io/v1',
      kind: 'DestinationRule',
      metadata: { name: 'a', namespace: 'default' },
      spec: { host: 'a', trafficPolicy },
    }) as unknown as KubeObject;

  test.each(['soon', '0s', '-1s', '5'])('refuse the timeout %s by themselves', (timeout) => {
    const { code, said } = dryRun([route(timeout)]);
    expect(said).toMatch(/spec\.http\[0\]\.timeout: Invalid value/);
    expect(code).not.toBe(0);
  });

  test('refuse what is no length of time on a port of a DestinationRule', () => {
    const portLevelSettings = [{ port: { number: 80 }, outlierDetection: { interval: 'often' } }];
    const { code, said } = dryRun([rule({ portLevelSettings })]);
    expect(said).toMatch(/portLevelSettings\[0\]\.outlierDetection\.interval: Invalid value/);
    expect(code).not.toBe(0);
  });

  test.each(['250ms', '1.5s', '1h30m'])('take %s', (timeout) => {
    expect(dryRun([route(timeout)])).toMatchObject({ code: 0 });
  });

  test('take 0s where it switches something off', () => {
    const object = rule({ connectionPool: { tcp: { idleTimeout: '0s' } } });
    expect(dryRun([object])).toMatchObject({ code: 0 });
  });
});

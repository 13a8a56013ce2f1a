import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import type { TestApi } from '../../packages/sandbox/test/support/api-server.ts';
import { startTestApi } from '../../packages/sandbox/test/support/api-server.ts';
import type { Kubectl } from '../../packages/sandbox/test/support/kubectl.ts';
import { createKubectl, kubectlPath } from '../../packages/sandbox/test/support/kubectl.ts';
import { namespace, render } from './helm.ts';

/** What the charts render, held against an API server's schemas by kubectl, field by field. */
let running: TestApi;
let kubectl: Kubectl;

beforeAll(async () => {
  running = await startTestApi();
  const { server, ca, api } = running;
  kubectl = createKubectl(kubectlPath('1.34'), { server, ca, token: api.tokens.adminToken });
  await kubectl.out(['create', 'namespace', namespace]);
}, 60_000);

afterAll(async () => {
  kubectl.close();
  await running.api.close();
});

/** What the API server of this test does not have. */
const unknownKinds = new Set([
  'GatewayClass',
  'ValidatingAdmissionPolicy',
  'ValidatingAdmissionPolicyBinding',
]);

const everything = {
  'controller.autoscaleEnabled': true,
  'controller.meshConfig': { accessLogFile: '/dev/stdout' },
  'controller.trustDomainAliases': ['old.example'],
  'global.platform': 'gke',
  'global.imagePullSecrets': ['registry'],
};

test.each([
  ['as it comes', {}],
  ['with all that can be switched on', everything],
])(
  'the whole mesh %s is taken without a warning',
  async (_name, values) => {
    const objects = render('ambit', { values });
    const known = objects.filter(({ kind }) => !unknownKinds.has(kind));
    const manifest = known.map((object) => stringify(object, { lineWidth: 0 })).join('---\n');
    const args = ['apply', '--server-side', '--dry-run=server', '--validate=strict', '-f', '-'];
    const { code, stdout, stderr } = await kubectl.run(args, manifest);
    expect(stderr).toBe('');
    expect(stdout.trim().split('\n')).toHaveLength(known.length);
    expect(code).toBe(0);
  },
  60_000,
);

test('its definitions refuse what their schemas forbid', async () => {
  const definitions = render('base').filter(({ kind }) => kind === 'CustomResourceDefinition');
  await kubectl.out(['apply', '--server-side', '-f', '-'], definitions.map((one) => stringify(one)).join('---\n'));
  await kubectl.out(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=10s']);
  const policy = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: ${namespace} }
spec: { mtls: { mode: PERHAPS } }
`;
  const { code, stderr } = await kubectl.run(['apply', '-f', '-'], policy);
  expect(stderr).toMatch(/spec\.mtls\.mode: Unsupported value: "PERHAPS"/);
  expect(code).not.toBe(0);
}, 60_000);

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { crds } from '@ambit/controller';
import { createKubeTour } from '../src/tour/kube.ts';
import { startTestApi, type TestApi } from './support/api-server.ts';
import { createKubectl, kubectlPath, type Kubectl } from './support/kubectl.ts';

/** What the sandbox installs of the mesh's own schemas must hold for what a user applies. */
let running: TestApi;
let kubectl: Kubectl;

beforeAll(async () => {
  running = await startTestApi();
  const { server, ca } = running;
  const token = running.api.tokens.adminToken;
  kubectl = createKubectl(kubectlPath('1.34'), { server, ca, token });
  const tour = createKubeTour({
    kubeconfig: JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: 'a',
          cluster: { server, 'certificate-authority-data': Buffer.from(ca).toString('base64') },
        },
      ],
      users: [{ name: 'a', user: { token } }],
      contexts: [{ name: 'a', context: { cluster: 'a', user: 'a' } }],
      'current-context': 'a',
    }),
    captureNodeLink: () => {
      throw new Error('there is no node here');
    },
  });
  for (const crd of crds()) await tour.apply(crd);
}, 60_000);

afterAll(async () => {
  kubectl.close();
  await running.api.close();
});

const policy = (spec: string): string => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: a }
spec: ${spec}
`;

test('a value that is none of the allowed ones is refused by name', async () => {
  await expect(
    kubectl.out(['apply', '-f', '-'], policy('{ action: PERHAPS, rules: [{}] }')),
  ).rejects.toThrow(/spec\.action: Unsupported value: "PERHAPS"/);
});

test('a field that there is not is refused by name', async () => {
  await expect(
    kubectl.out(['apply', '-f', '-'], policy('{ acton: DENY, rules: [{}] }')),
  ).rejects.toThrow(/unknown field "spec\.acton"/);
});

test('the status keeps what is written there', async () => {
  await kubectl.out(['apply', '-f', '-'], policy('{ action: DENY, rules: [{}] }'));
  const condition = { type: 'ZtunnelAccepted', status: 'True', reason: 'Accepted' };
  const patch = JSON.stringify({ status: { conditions: [condition] } });
  await kubectl.out([
    'patch',
    'authorizationpolicy/a',
    '--subresource=status',
    '--type=merge',
    '-p',
    patch,
  ]);
  const stored = await kubectl.out(['get', 'authorizationpolicy/a', '-o', 'json']);
  expect(JSON.parse(stored)).toMatchObject({ status: { conditions: [condition] } });
});

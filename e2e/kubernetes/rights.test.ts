import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from '@ambit/controller';
import { createKubeClient } from '@ambit/controller';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { KubeConfig } from '@kubernetes/client-node';
import { root } from '../charts/helm.ts';
import { findRelease, systemNamespace } from '../support/release.ts';

/** What the accounts of an installed mesh may do, asked of a real API server as they. */
const kubeconfig = process.env['KUBECONFIG'];
const release = findRelease(kubeconfig);
const spaces = ['rights', 'openshift-rights'] as const;
const controller = `system:serviceaccount:${systemNamespace}:ambit-controller`;
let path = '';

interface Ran {
  readonly code: number | null;
  readonly said: string;
}

function kubectl(words: readonly string[], input = ''): Ran {
  const run = spawnSync(path, ['--kubeconfig', kubeconfig ?? '', ...words], {
    input,
    encoding: 'utf8',
  });
  return { code: run.status, said: `${run.stdout}${run.stderr}` };
}

const asController = (...words: string[]): Ran => kubectl([...words, `--as=${controller}`]);
const inRights = ['-n', 'rights'];

function controllerClient(): KubeClient {
  const admin = new KubeConfig();
  admin.loadFromFile(kubeconfig ?? '');
  const token = kubectl(['create', 'token', 'ambit-controller', '-n', systemNamespace]).said.trim();
  const config = new KubeConfig();
  config.loadFromClusterAndUser(admin.getCurrentCluster()!, { name: 'controller', token });
  return createKubeClient(config);
}

const deployment = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'foreign', namespace: 'rights' },
  spec: {
    replicas: 0,
    selector: { matchLabels: { app: 'foreign' } },
    template: {
      metadata: { labels: { app: 'foreign' } },
      // But for whose it is nothing is wrong with it: of several policies any may be the one that speaks.
      spec: {
        serviceAccountName: 'foreign',
        containers: [
          {
            name: 'a',
            image: 'none.example/none',
            securityContext: { allowPrivilegeEscalation: false },
          },
        ],
      },
    },
  },
};

(release === undefined ? describe.skip : describe)('of a mesh that helm installed', () => {
  beforeAll(() => {
    const script = join(root, 'scripts/kubectl.mjs');
    path = execFileSync(process.execPath, [script], { encoding: 'utf8' }).trim();
    for (const space of spaces)
      expect(kubectl(['create', 'namespace', space])).toMatchObject({ code: 0 });
    // Of nobody else's writes the policies speak.
    expect(kubectl(['apply', '-f', '-'], JSON.stringify(deployment))).toMatchObject({ code: 0 });
    const service = ['create', 'service', 'loadbalancer', 'foreign', '--tcp=80', ...inRights];
    expect(kubectl(service)).toMatchObject({ code: 0 });
  }, 60_000);

  afterAll(() => {
    kubectl(['delete', 'namespace', ...spaces, '--wait=false']);
  });

  test.each<readonly [string, readonly string[], RegExp]>([
    [
      'a Deployment',
      ['patch', 'deployment', 'foreign', ...inRights, '-p', '{"spec":{"replicas":1}}'],
      /the controller writes what it deployed for a Gateway only: deployments rights\/foreign has not/,
    ],
    [
      'a Service',
      ['patch', 'service', 'foreign', ...inRights, '-p', '{"spec":{"selector":{"a":"b"}}}'],
      /for a Gateway only: services rights\/foreign has not the label/,
    ],
    [
      'the ServiceAccount of pods',
      ['label', 'serviceaccount', 'default', 'a=b', ...inRights],
      /for a Gateway only: serviceaccounts rights\/default has not the label/,
    ],
    [
      'a Deployment that is new',
      ['create', 'deployment', 'new', '--image=none.example/none', ...inRights],
      /for a Gateway only: deployments rights\/new has not the label|proxies that run as the ServiceAccount of their own name only/,
    ],
    [
      'a ConfigMap',
      ['create', 'configmap', 'mine', ...inRights],
      /the controller writes ConfigMaps istio-ca-root-cert .* and not configmaps rights\/mine/,
    ],
    [
      'a Secret of its own namespace',
      ['create', 'secret', 'generic', 'mine', '-n', systemNamespace],
      /Secret istio-ca-secret and Lease ambit-controller only, and not secrets istio-system\/mine/,
    ],
  ])("the controller's account is refused %s of others", (_what, words, sentence) => {
    const { code, said } = asController(...words);
    expect(said).toMatch(sentence);
    expect(code).not.toBe(0);
  });

  test.each<readonly [string, string, object, RegExp]>([
    [
      'labels of a Namespace',
      '/api/v1/namespaces/rights',
      { metadata: { labels: { 'pod-security.kubernetes.io/enforce': 'privileged' } } },
      /writes conditions of pods, namespaces and services only, never labels and annotations/,
    ],
    [
      'where a Service is reached',
      '/api/v1/namespaces/rights/services/foreign',
      { status: { loadBalancer: { ingress: [{ ip: '192.0.2.1' }] } } },
      /which waypoint they are bound to, and of nothing else/,
    ],
  ])(
    "the controller's token is refused %s, by its status",
    async (_what, object, body, sentence) => {
      const client = controllerClient();
      try {
        const write = client.request({
          method: 'PATCH',
          path: `${object}/status`,
          contentType: 'application/merge-patch+json',
          body,
        });
        await expect(write).rejects.toThrow(sentence);
      } finally {
        client.close();
      }
    },
  );

  test("the controller's account is refused a proxy under the ServiceAccount that somebody else made", () => {
    const as = (name: string): Ran => {
      const apiVersion = 'gateway.networking.k8s.io/v1';
      const proxy = {
        ...deployment,
        metadata: {
          name,
          namespace: 'rights',
          labels: { 'gateway.istio.io/managed': 'ambit.dev-mesh-controller' },
          ownerReferences: [{ apiVersion, kind: 'Gateway', name, uid: 'none' }],
        },
        spec: {
          ...deployment.spec,
          template: {
            metadata: { labels: { app: 'foreign' } },
            spec: {
              serviceAccountName: name,
              containers: [
                {
                  name: 'a',
                  image: 'none.example/none',
                  securityContext: { allowPrivilegeEscalation: false },
                },
              ],
            },
          },
        },
      };
      const words = ['create', '--dry-run=server', '-f', '-', `--as=${controller}`];
      return kubectl(words, JSON.stringify(proxy));
    };
    expect(as('default').said).toMatch(/serviceaccounts rights\/default is somebody else's/);
    expect(as('nobody')).toMatchObject({ code: 0 });
  });

  test("the controller's account has the rights to its own objects, by name", () => {
    const may = (verb: string, what: string): boolean =>
      asController('auth', 'can-i', verb, what, '-n', systemNamespace).code === 0;
    for (const [verb, own, other] of [
      ['get', 'secrets/istio-ca-secret', 'secrets/cacerts'],
      ['update', 'leases/ambit-controller', 'leases/other'],
      [
        'patch',
        'validatingwebhookconfigurations/ambit-validator',
        'validatingwebhookconfigurations/x',
      ],
      [
        'list',
        'validatingwebhookconfigurations/ambit-validator',
        'validatingwebhookconfigurations',
      ],
    ] as const)
      expect([own, may(verb, own), other, may(verb, other)]).toEqual([own, true, other, false]);
  });

  test('the API server has nothing against the types of the policies', async () => {
    const words = ['get', 'validatingadmissionpolicies', '-o', 'json'];
    const own = ['-l', 'app.kubernetes.io/part-of=ambit'];
    for (let round = 0; ; round += 1) {
      const { items } = JSON.parse(kubectl([...words, ...own]).said) as {
        items: { metadata: { name: string }; status?: { typeChecking?: object } }[];
      };
      expect(items).toHaveLength(6);
      if (items.some(({ status }) => status?.typeChecking === undefined) && round < 30) {
        await sleep(1_000);
        continue;
      }
      expect(items.map(({ status }) => status?.typeChecking)).toEqual(items.map(() => ({})));
      return;
    }
  }, 60_000);

  test('of the namespaces of a platform the webhook is not asked', () => {
    const wrong = (namespace: string): Ran =>
      kubectl(
        ['create', '--dry-run=server', '-f', '-'],
        JSON.stringify({
          apiVersion: 'networking.istio.io/v1',
          kind: 'VirtualService',
          metadata: { name: 'wrong', namespace },
          spec: {
            hosts: ['a'],
            http: [
              {
                match: [{ uri: { regex: '(' } }],
                route: [{ destination: { host: 'a' } }],
              },
            ],
          },
        }),
      );
    expect(wrong('rights').said).toMatch(/"validation\.ambit\.dev" denied the request/);
    expect(wrong('openshift-rights')).toMatchObject({ code: 0 });
  });

  test.each(['ztunnel', 'cni-redirect'])('%s is kept from what the runtime filters', (name) => {
    const script =
      'console.log(require("fs").readFileSync("/proc/self/status","utf8").match(/^Seccomp:.*/m)[0])';
    const exec = ['exec', '-n', systemNamespace, `daemonset/${name}`, '--'];
    const { said } = kubectl([...exec, '/usr/local/bin/node', '-e', script]);
    expect(said).toMatch(/Seccomp:\s+2/);
  });
});

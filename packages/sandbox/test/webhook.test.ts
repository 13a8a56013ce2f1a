import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Controller } from '@ambit/controller';
import type { KubeObject } from '../src/apiserver/index.ts';
import { startTestApi, type TestApi } from './support/api-server.ts';
import { installMesh, startTestController } from './support/controller.ts';
import { createKubectl, kubectlPath, type Kubectl } from './support/kubectl.ts';

/** The controller's webhook, asked by the API server for what kubectl applies. */
let running: TestApi;
let kubectl: Kubectl;
let controller: Controller | undefined;
const folder = mkdtempSync(join(tmpdir(), 'ambit-webhook-'));

const configurations = {
  group: 'admissionregistration.k8s.io',
  resource: 'validatingwebhookconfigurations',
};

interface Registered extends KubeObject {
  readonly webhooks: readonly {
    readonly name: string;
    readonly failurePolicy: string;
    readonly clientConfig: { readonly caBundle?: string };
  }[];
}

function registered(): Registered['webhooks'] {
  const found = running.api.store.get(configurations, undefined, 'ambit-validator');
  return (found as Registered | undefined)?.webhooks ?? [];
}

async function eventually(what: () => boolean, why: string): Promise<void> {
  const end = Date.now() + 10_000;
  while (!what()) {
    if (Date.now() > end) throw new Error(`timed out: ${why}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

beforeAll(async () => {
  running = await startTestApi({
    dialService: (namespace, name, port) => {
      const at = controller?.addresses.webhook.port;
      if (`${namespace}/${name}:${port}` !== 'istio-system/ambit-controller:443')
        return Promise.reject(new Error('no such Service'));
      if (at === undefined) return Promise.reject(new Error('the Service has no ready endpoint'));
      return Promise.resolve(connect({ host: '127.0.0.1', port: at }));
    },
  });
  const { server, ca, api } = running;
  kubectl = createKubectl(kubectlPath('1.34'), { server, ca, token: api.tokens.adminToken });
  await installMesh(kubectl);
  await kubectl.out(['create', 'namespace', 'shop']);
  await kubectl.out(['create', 'service', 'clusterip', 'reviews', '--tcp=8080', '-n', 'shop']);
}, 60_000);

afterAll(async () => {
  await controller?.close();
  await running.api.close();
  kubectl.close();
  rmSync(folder, { recursive: true });
  expect(running.errors).toEqual([]);
});

function object(kind: string, apiVersion: string, spec: object, more: object = {}): string {
  const metadata = { name: 'one', namespace: 'shop', ...more };
  return JSON.stringify({ apiVersion, kind, metadata, spec });
}

const istio = 'networking.istio.io/v1';
const security = 'security.istio.io/v1';
const destination = { host: 'reviews' };
const bad = {
  hosts: ['reviews'],
  http: [{ match: [{ uri: { regex: '(?=a)' } }], route: [{ destination }] }],
};

const configMap = (name: string, mesh: string): string =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace: 'istio-system' },
    data: { mesh },
  });

const apply = (manifest: string) => kubectl.run(['apply', '-f', '-'], manifest);

const gatewayApi = 'gateway.networking.k8s.io/v1';
const theirs = {
  gatewayClassName: 'theirs',
  listeners: [{ name: 'http', port: 80, protocol: 'HTTP' }],
};

/** Asks until the controller knows all that the object names: it hears of an object a moment after it is stored. */
async function withoutWarning(manifest: string): Promise<void> {
  const end = Date.now() + 10_000;
  for (;;) {
    const asked = await kubectl.run(['create', '--dry-run=server', '-f', '-'], manifest);
    if (asked.code === 0 && asked.stderr === '') return;
    if (Date.now() > end) throw new Error(`still warned: ${asked.stderr}`);
  }
}

describe('before a controller is there', () => {
  test('nothing is held up', async () => {
    expect(new Set(registered().map(({ failurePolicy }) => failurePolicy))).toEqual(
      new Set(['Ignore']),
    );
    const { code } = await apply(object('VirtualService', istio, bad));
    expect(code).toBe(0);
    await kubectl.out(['delete', 'virtualservice/one', '-n', 'shop']);
  });
});

describe('once a controller serves it', () => {
  beforeAll(async () => {
    ({ controller } = await startTestController(running, kubectl, folder));
    await controller.whenSynced;
    await eventually(
      () => registered().every(({ clientConfig }) => clientConfig.caBundle !== undefined),
      'the authority in the configuration',
    );
  }, 30_000);

  test('only the webhook that is of no namespace of the cluster itself fails closed', () => {
    expect(registered().map(({ name, failurePolicy }) => [name, failurePolicy])).toEqual([
      ['validation.ambit.dev', 'Fail'],
      ['root.validation.ambit.dev', 'Ignore'],
      ['meshconfig.validation.ambit.dev', 'Ignore'],
    ]);
  });

  test('somebody who puts the configuration back is put right', async () => {
    const patch = JSON.stringify([
      { op: 'replace', path: '/webhooks/0/failurePolicy', value: 'Ignore' },
    ]);
    await kubectl.out([
      'patch',
      'validatingwebhookconfiguration/ambit-validator',
      '--type=json',
      '-p',
      patch,
    ]);
    await eventually(() => registered()[0]?.failurePolicy === 'Fail', 'Fail again');
  });

  test.each<[string, string, RegExp]>([
    [
      'a VirtualService with an expression that RE2 does not know',
      object('VirtualService', istio, bad),
      /denied the request: VirtualService shop\/one: spec\.http\[0\]\.match\[0\]\.uri\.regex: is no regular expression of RE2/,
    ],
    [
      'a DestinationRule with a subset without a name',
      object('DestinationRule', istio, { host: 'reviews', subsets: [{ labels: { a: 'b' } }] }),
      /DestinationRule shop\/one: spec\.subsets\[0\]\.name: must not be empty/,
    ],
    [
      'an AuthorizationPolicy with an empty list of sources',
      object('AuthorizationPolicy', security, { rules: [{ from: [] }] }),
      /AuthorizationPolicy shop\/one: spec\.rules\[0\]\.from: must not be an empty list/,
    ],
    [
      'a PeerAuthentication with a port and no selector',
      object('PeerAuthentication', security, { portLevelMtls: { 8080: { mode: 'STRICT' } } }),
      /PeerAuthentication shop\/one: spec\.portLevelMtls\[8080\]: needs spec\.selector/,
    ],
    [
      'a ServiceEntry with a wildcard',
      object('ServiceEntry', istio, {
        hosts: ['*.example.com'],
        ports: [{ number: 443, name: 'tls', protocol: 'TLS' }],
      }),
      /ServiceEntry shop\/one: spec\.hosts\[0\]: wildcards are not there yet/,
    ],
    [
      'a Gateway of a waypoint on another port',
      object('Gateway', gatewayApi, {
        gatewayClassName: 'istio-waypoint',
        listeners: [{ name: 'mesh', port: 15009, protocol: 'HBONE' }],
      }),
      /Gateway shop\/one: spec\.listeners\[0\]\.port: must be 15008/,
    ],
    [
      'an HTTPRoute with a filter that is not there',
      object('HTTPRoute', gatewayApi, {
        parentRefs: [{ group: '', kind: 'Service', name: 'reviews' }],
        rules: [
          {
            filters: [
              { type: 'ExtensionRef', extensionRef: { group: 'a.b', kind: 'C', name: 'd' } },
            ],
          },
        ],
      }),
      /HTTPRoute shop\/one: spec\.rules\[0\]\.filters\[0\]\.extensionRef: /,
    ],
    [
      'a RateLimitPolicy without limits',
      object('RateLimitPolicy', 'ambit.dev/v1alpha1', {
        targetRefs: [{ kind: 'Service', name: 'reviews' }],
        limits: [],
      }),
      /RateLimitPolicy shop\/one: spec\.limits: /,
    ],
  ])('%s is refused, by object, field and fix', async (_what, manifest, told) => {
    const { code, stderr } = await apply(manifest);
    expect(stderr).toMatch(told);
    expect(code).toBe(1);
  });

  test('what may come later is a warning, and so is what does nothing', async () => {
    const later = await apply(
      object('VirtualService', istio, {
        hosts: ['reviews'],
        http: [{ route: [{ destination: { host: 'nobody' } }] }],
      }),
    );
    expect(later).toMatchObject({ code: 0 });
    expect(later.stderr).toMatch(
      /Warning: VirtualService shop\/one: spec\.http\[0\]\.route\[0\]\.destination\.host: "nobody" is no Service/,
    );
    const idle = await apply(object('RequestAuthentication', security, { jwtRules: [] }));
    expect(idle).toMatchObject({ code: 0 });
    expect(idle.stderr).toMatch(
      /Warning: RequestAuthentication shop\/one: spec\.targetRefs: is empty/,
    );
    await kubectl.out(['delete', 'virtualservice/one', 'requestauthentication/one', '-n', 'shop']);
  });

  test('what nobody serves is a warning', async () => {
    const gateway = await apply(
      object('Gateway', gatewayApi, { ...theirs, gatewayClassName: 'x' }),
    );
    expect(gateway).toMatchObject({ code: 0 });
    expect(gateway.stderr).toMatch(
      /Warning: Gateway shop\/one: spec\.gatewayClassName: there is no GatewayClass x, /,
    );
    const parentRefs = [{ group: '', kind: 'Service', name: 'wreviews' }, { name: 'gone' }];
    const route = await apply(object('HTTPRoute', gatewayApi, { parentRefs }));
    expect(route).toMatchObject({ code: 0 });
    expect(route.stderr).toMatch(
      /Warning: HTTPRoute shop\/one: spec\.parentRefs\[0\]: there is no Service shop\/wreviews/,
    );
    expect(route.stderr).toMatch(/spec\.parentRefs\[1\]\.name: there is no Gateway shop\/gone/);
    await kubectl.out(['delete', 'gateway/one', 'httproute/one', '-n', 'shop']);
  });

  test.each<[string, string, RegExp]>([
    [
      'routes of a Service without a waypoint',
      object('HTTPRoute', gatewayApi, {
        parentRefs: [{ group: '', kind: 'Service', name: 'reviews' }],
        rules: [{ backendRefs: [{ name: 'reviews', port: 8080 }] }],
      }),
      /HTTPRoute shop\/one: spec\.parentRefs\[0\]: Service shop\/reviews is bound to no waypoint, /,
    ],
    [
      'a DestinationRule of nobody',
      object('DestinationRule', istio, { host: 'wreviews', subsets: [{ name: 'v1' }] }),
      /DestinationRule shop\/one: spec\.host: "wreviews" is no Service of this cluster/,
    ],
    [
      'an AuthorizationPolicy that nobody can match',
      object('AuthorizationPolicy', security, {
        rules: [{ from: [{ source: { namespaces: ['A_B'] } }] }],
      }),
      /source\.namespaces\[0\]: "A_B" is no name of a namespace, .*; it matches nothing/,
    ],
    [
      'a PeerAuthentication that selects nobody',
      object('PeerAuthentication', security, {
        selector: { matchLabels: { app: 'gone' } },
        mtls: { mode: 'STRICT' },
      }),
      /spec\.selector\.matchLabels: selects no Pod and no WorkloadEntry of namespace shop now/,
    ],
    [
      'a Telemetry that says nothing',
      object('Telemetry', 'telemetry.istio.io/v1', {}),
      /Telemetry shop\/one: spec: has no metrics, tracing or accessLogging/,
    ],
    [
      'a WorkloadEntry that is no endpoint',
      object('WorkloadEntry', istio, { address: '192.0.2.1' }),
      /WorkloadEntry shop\/one: spec\.labels: no ServiceEntry of namespace shop selects it/,
    ],
  ])('%s: accepted, with a warning', async (_what, manifest, told) => {
    const asked = await kubectl.run(['create', '--dry-run=server', '-f', '-'], manifest);
    expect(asked.stderr).toMatch(told);
    expect(asked.code).toBe(0);
  });

  test('routes and Gateways of others are not judged', async () => {
    const spec = { controllerName: 'example.com/ingress' };
    const metadata = { name: 'theirs' };
    const apiVersion = gatewayApi;
    await apply(JSON.stringify({ apiVersion, kind: 'GatewayClass', metadata, spec }));
    const manifest = object('Gateway', gatewayApi, theirs, { name: 'their-gateway' });
    await withoutWarning(manifest);
    await apply(manifest);
    await withoutWarning(
      object('HTTPRoute', gatewayApi, { parentRefs: [{ name: 'their-gateway' }] }),
    );
    const route = await apply(
      object('HTTPRoute', gatewayApi, {
        parentRefs: [{ name: 'their-gateway' }],
        rules: [
          {
            filters: [
              { type: 'ExtensionRef', extensionRef: { group: 'a.b', kind: 'C', name: 'd' } },
            ],
          },
        ],
      }),
    );
    expect(route).toMatchObject({ code: 0, stderr: '' });
    await kubectl.out(['delete', 'httproute/one', 'gateway/their-gateway', '-n', 'shop']);
  });

  test('a namespace that is exempt gets its status only, and may mend it later', async () => {
    await kubectl.out(['label', 'namespace', 'shop', 'ambit.dev/validation=disabled']);
    expect(await apply(object('VirtualService', istio, bad))).toMatchObject({ code: 0 });
    await kubectl.out(['label', 'namespace', 'shop', 'ambit.dev/validation-']);
    // What was wrong before does not hold up who changes something else.
    const labelled = await kubectl.run(['label', 'virtualservice/one', 'a=b', '-n', 'shop']);
    expect(labelled).toMatchObject({ code: 0 });
    expect(labelled.stderr).toMatch(/Warning: VirtualService shop\/one: .*RE2/);
    const worse = { ...bad, http: [...bad.http, { route: [{ destination }], timeout: 'soon' }] };
    expect((await apply(object('VirtualService', istio, worse))).stderr).toMatch(
      /http\[1\]\.timeout/,
    );
    await kubectl.out(['delete', 'virtualservice/one', '-n', 'shop']);
  });

  test('a policy of the root namespace is looked at too', async () => {
    const { code, stderr } = await apply(
      object(
        'PeerAuthentication',
        security,
        { portLevelMtls: { 1: { mode: 'STRICT' } } },
        { namespace: 'istio-system' },
      ),
    );
    expect(stderr).toMatch(/root\.validation\.ambit\.dev.*needs spec\.selector/);
    expect(code).toBe(1);
  });

  test.each<[string, string, RegExp]>([
    ['no YAML', 'a: [', /ConfigMap istio-system\/istio: data\.mesh: /],
    [
      'a default provider that is not there',
      'defaultProviders: { tracing: [nobody] }',
      /data\.mesh: defaultProviders\.tracing: no provider is called "nobody"; add it/,
    ],
  ])('a mesh configuration that is wrong is refused: %s', async (_what, mesh, told) => {
    const { code, stderr } = await apply(configMap('istio', mesh));
    expect(stderr).toMatch(told);
    expect(stderr).toMatch(/meshconfig\.validation\.ambit\.dev.* denied the request/);
    expect(code).toBe(1);
  });

  test('of a mesh configuration what is not read is a warning, and other ConfigMaps are not judged', async () => {
    const idle = await apply(configMap('istio', 'enableAutoMtls: true'));
    expect(idle).toMatchObject({ code: 0 });
    expect(idle.stderr).toMatch(
      /Warning: ConfigMap istio-system\/istio: data\.mesh: enableAutoMtls: is not read/,
    );
    expect(await apply(configMap('other', 'a: ['))).toMatchObject({ code: 0, stderr: '' });
    await kubectl.out(['delete', 'configmap/istio', 'configmap/other', '-n', 'istio-system']);
  });
});

describe('when the controller is away', () => {
  beforeAll(async () => {
    await controller?.close();
    controller = undefined;
  });

  test('resources of the mesh wait, and the error says for whom', async () => {
    const { code, stderr } = await apply(object('VirtualService', istio, { hosts: ['reviews'] }));
    expect(code).toBe(1);
    expect(stderr).toMatch(/failed calling webhook "validation\.ambit\.dev": .*no ready endpoint/);
  });

  test('nothing else does: other kinds, status, the root namespace, deletion', async () => {
    await kubectl.out(['create', 'configmap', 'other', '-n', 'shop']);
    const root = object(
      'PeerAuthentication',
      security,
      { mtls: { mode: 'STRICT' } },
      { namespace: 'istio-system' },
    );
    expect(await apply(root)).toMatchObject({ code: 0 });
    for (const name of ['istio', 'other'])
      expect(await apply(configMap(name, ''))).toMatchObject({ code: 0 });
    await kubectl.out(['delete', 'configmap/istio', 'configmap/other', '-n', 'istio-system']);
    await kubectl.out(['delete', 'peerauthentication/one', '-n', 'istio-system']);
  });
});

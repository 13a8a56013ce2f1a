import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';
import { askEcho, echo, nowAnswers } from '../support/echo.ts';
import type { Release, Said } from '../support/release.ts';
import { findRelease, systemNamespace } from '../support/release.ts';
import { untilNoTrace } from '../support/traces.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** By helm 3, which most clusters are still kept by; what helm 4 installed before, it takes away. */
const release = findRelease(process.env['KUBECONFIG'], 3);
const waypointLabels = { 'gateway.networking.k8s.io/gateway-name': 'waypoint' };
const wait = ['--wait', '--timeout', '5m'];

const daemonSet = (namespace: string, name: string, metadata: object = {}) => ({
  apiVersion: 'apps/v1',
  kind: 'DaemonSet',
  metadata: { name, namespace, ...metadata },
  spec: {
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: {
        nodeSelector: { no: 'node' },
        containers: [{ name, image: 'none.example/none', imagePullPolicy: 'Never' }],
      },
    },
  },
});
const byHelm = { 'meta.helm.sh/release-name': 'other' };
const ofIstio = {
  labels: { 'app.kubernetes.io/part-of': 'istio' },
  annotations: { ...byHelm, 'meta.helm.sh/release-namespace': systemNamespace },
};
const ofOtherAmbit = {
  labels: { 'app.kubernetes.io/part-of': 'ambit' },
  annotations: { ...byHelm, 'meta.helm.sh/release-namespace': 'default' },
};
const webhook = (kind: string, name: string, metadata: object) => ({
  apiVersion: 'admissionregistration.k8s.io/v1',
  kind,
  metadata: { name, ...metadata },
  webhooks: [],
});
const istiod = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'istiod', namespace: systemNamespace, labels: { app: 'istiod' } },
  spec: {
    replicas: 0,
    selector: { matchLabels: { app: 'istiod' } },
    template: {
      metadata: { labels: { app: 'istiod' } },
      spec: { containers: [{ name: 'istiod', image: 'none.example/none' }] },
    },
  },
};
const classOf = (name: string) => ({
  apiVersion: 'gateway.networking.k8s.io/v1',
  kind: 'GatewayClass',
  metadata: { name },
  spec: { controllerName: 'istio.io/mesh-controller' },
});

/** What another mesh has in the cluster, and what helm then says. */
const rivals: readonly (readonly [string, object, RegExp])[] = [
  [
    'a node proxy in another namespace',
    daemonSet('default', 'ztunnel'),
    /another mesh is here: DaemonSet default\/ztunnel .* uninstall that one first/,
  ],
  [
    "Istio's node proxy in the same namespace",
    daemonSet(systemNamespace, 'ztunnel', ofIstio),
    /another mesh is here: DaemonSet istio-system\/ztunnel .* uninstall that one first/,
  ],
  [
    "Istio's agent of a release in the same namespace",
    daemonSet(systemNamespace, 'istio-cni-node', ofIstio),
    /another mesh is here: DaemonSet istio-system\/istio-cni-node/,
  ],
  [
    'the agent of a second Ambit',
    daemonSet('default', 'cni-redirect', ofOtherAmbit),
    /another mesh is here: DaemonSet default\/cni-redirect/,
  ],
  [
    'the controller of a second Ambit',
    webhook('ValidatingWebhookConfiguration', 'ambit-validator', ofOtherAmbit),
    /another Ambit is here: .* of release other in namespace default\. .* uninstall that one first/,
  ],
  [
    "an istiod's validation, without any of its definitions",
    webhook('ValidatingWebhookConfiguration', 'istio-validator', { labels: { app: 'istiod' } }),
    /Istio is here: ValidatingWebhookConfiguration istio-validator .* uninstall Istio first/,
  ],
  [
    "an istiod's injection",
    webhook('MutatingWebhookConfiguration', 'istio-injector', {
      labels: { app: 'sidecar-injector' },
    }),
    /Istio is here: MutatingWebhookConfiguration istio-injector .* uninstall Istio first/,
  ],
  ['an istiod without a webhook', istiod, /Istio is here: Deployment istio-system\/istiod/],
  [
    'the class of waypoints of another controller',
    classOf('istio-waypoint'),
    /GatewayClass istio-waypoint belongs to the controller istio\.io\/mesh-controller\..* kubectl delete gatewayclass istio-waypoint/,
  ],
];

const definition = 'telemetries.telemetry.istio.io';
/** A definition as somebody else's: open, and by another release. */
const foreignDefinition = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: {
    name: definition,
    annotations: {
      'meta.helm.sh/release-name': 'istio-base',
      'meta.helm.sh/release-namespace': 'default',
    },
    labels: { 'app.kubernetes.io/managed-by': 'Helm' },
  },
  spec: {
    group: 'telemetry.istio.io',
    scope: 'Namespaced',
    names: {
      kind: 'Telemetry',
      listKind: 'TelemetryList',
      plural: 'telemetries',
      singular: 'telemetry',
    },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: {
          openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
        },
      },
    ],
  },
};

/** Where the mesh was installed by other charts, there is no release of ours to change. */
(release === undefined ? describe.skip : describe)('helm', () => {
  const given = (): Release => {
    if (release === undefined) throw new TypeError('the mesh is not installed by helm here');
    return release;
  };
  const helm = (...words: string[]): Promise<Said> => given().helm(...words);
  const applyChart = (...words: [string, ...string[]]): Promise<Said> =>
    given().applyChart(...words);
  const uninstall = (): Promise<void> => given().uninstall();
  let mesh: MeshCluster;
  let kubectlPath = '';

  beforeAll(async () => {
    const script = join(root, 'scripts/kubectl.mjs');
    kubectlPath = execFileSync(process.execPath, [script], { encoding: 'utf8' }).trim();
    mesh = await startMesh();
    for (const object of [
      ...echo('direct', { namespace: 'shop' }),
      ...echo('bound', {
        namespace: 'shop',
        serviceLabels: { 'istio.io/use-waypoint': 'waypoint' },
      }),
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'outside' } },
      ...echo('stranger', { namespace: 'outside' }),
    ])
      await mesh.cluster.apply(object);
    for (const namespace of ['shop', 'clients'])
      await mesh.cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
    await mesh.apply({
      apiVersion: 'security.istio.io/v1',
      kind: 'PeerAuthentication',
      metadata: { name: 'default', namespace: 'shop' },
      spec: { mtls: { mode: 'STRICT' } },
    });
  }, 200_000);

  afterAll(async () => {
    // As docs/install.md has it for who wants the definitions gone, too.
    kubectl('delete', 'crd', '-l', 'app.kubernetes.io/part-of=ambit', '--wait=true');
    await release?.apply();
    await mesh.close();
  }, 400_000);

  function kubectl(...words: string[]): string {
    const done = spawnSync(kubectlPath, ['--kubeconfig', mesh.kubeconfig, ...words], {
      encoding: 'utf8',
    });
    if (done.status !== 0) throw new Error(`kubectl ${words.join(' ')}: ${done.stderr}`);
    return done.stdout;
  }

  function make(object: object): void {
    const args = ['--kubeconfig', mesh.kubeconfig, 'create', '-f', '-'];
    const done = spawnSync(kubectlPath, args, { input: JSON.stringify(object), encoding: 'utf8' });
    if (done.status !== 0) throw new Error(done.stderr);
  }

  async function done(said: Promise<Said>): Promise<string> {
    const { ok, text } = await said;
    if (!ok) throw new Error(text);
    return text;
  }

  async function withRival(object: object, use: () => Promise<void>): Promise<void> {
    make(object);
    try {
      await use();
    } finally {
      const { kind, metadata } = object as { kind: string; metadata: Record<string, string> };
      const where = metadata['namespace'] === undefined ? [] : ['-n', metadata['namespace']];
      kubectl('delete', kind, metadata['name'] ?? '', ...where, '--wait=true');
    }
  }

  test('an upgrade beside another mesh is refused, too', async () => {
    const [[, object, sentence]] = rivals as [(typeof rivals)[number]];
    await withRival(object, async () => {
      const { ok, text } = await applyChart('ambit');
      expect(text).toMatch(sentence);
      expect(ok).toBe(false);
    });
  }, 60_000);

  test('a priority class that the cluster does not have is refused, with those that it has', async () => {
    const { ok, text } = await applyChart('ambit', '--set', 'ztunnel.priorityClassName=nobody');
    expect(text).toMatch(
      /priorityClassName: the cluster has no PriorityClass nobody; set it to one of .*system-node-critical/,
    );
    expect(ok).toBe(false);
  }, 60_000);

  test('values that are changed are heard, and so is that they are changed back', async () => {
    const within = {
      key: 'kubernetes.io/metadata.name',
      operator: 'In',
      values: ['shop', 'clients'],
    };
    const discoverySelectors = [{ matchExpressions: [within] }];
    const configMap = `/api/v1/namespaces/${systemNamespace}/configmaps/istio`;
    for (const [replicaCount, meshConfig] of [
      [1, {}],
      [2, { discoverySelectors }],
      [1, { discoverySelectors, accessLogFile: '' }],
      [2, {}],
    ] as const) {
      const set = [`controller.replicaCount=${replicaCount}`];
      if (Object.keys(meshConfig).length > 0)
        set.push(`controller.meshConfig=${JSON.stringify(meshConfig)}`);
      await done(applyChart('ambit', '--wait', ...set.flatMap((one) => ['--set-json', one])));
      await until(async () => (await controllers()).length === replicaCount || undefined, 60_000);
      const there = await mesh.get(configMap).then(
        (got) => parse((got as { data: { mesh: string } }).data.mesh) as unknown,
        () => ({}),
      );
      expect(there).toEqual(meshConfig);
      await works();
    }
  }, 400_000);

  describe('where no mesh is', () => {
    beforeAll(async () => {
      await uninstall();
      await untilNoTrace(mesh.kubeconfig);
    }, 300_000);

    test.each(rivals)(
      'refuses to install beside %s, and changes nothing',
      async (_what, object, sentence) => {
        await withRival(object, async () => {
          const { ok, text } = await applyChart('ambit');
          expect(text).toMatch(sentence);
          expect(ok).toBe(false);
          const releases = ['get', 'secret', '-A', '-l', 'owner=helm', '-o', 'name'];
          expect(kubectl(...releases)).toBe('');
        });
      },
      60_000,
    );

    test('a definition that somebody else installed stays as it is', async () => {
      kubectl('delete', 'crd', definition, '--ignore-not-found', '--wait=true');
      make(foreignDefinition);
      const asItIs = (): unknown => {
        const { metadata, spec } = JSON.parse(
          kubectl('get', 'crd', definition, '-o', 'json'),
        ) as Readonly<Record<'metadata' | 'spec', Readonly<Record<string, unknown>>>>;
        const { uid, generation, labels, annotations } = metadata;
        return { uid, generation, labels, annotations, spec };
      };
      kubectl('wait', '--for=condition=Established', `crd/${definition}`, '--timeout=10s');
      const before = asItIs();
      const said = `Kept as it was, because somebody else installed it: CustomResourceDefinition ${definition}`;
      expect(await done(applyChart('ambit', '--wait'))).toContain(said);
      expect(asItIs()).toEqual(before);
      const upgrade = ['--set', 'global.logging.level=debug', '--wait'];
      expect(await done(applyChart('ambit', ...upgrade))).toContain(said);
      expect(asItIs()).toEqual(before);
      await uninstall();
      expect(asItIs()).toEqual(before);
      await untilNoTrace(mesh.kubeconfig);
      kubectl('delete', 'crd', definition, '--wait=true');
    }, 300_000);

    test('what was installed before can be again, with the definitions that were kept', async () => {
      const kept = kubectl('get', 'crd', '-l', 'app.kubernetes.io/part-of=ambit', '-o', 'name');
      expect(kept).toContain('authorizationpolicies.security.istio.io');
      expect(kept).not.toContain(definition);
      expect(await done(applyChart('ambit', '--wait'))).not.toContain('Kept as it was');
      const now = kubectl('get', 'crd', '-l', 'app.kubernetes.io/part-of=ambit', '-o', 'name');
      expect(now.trim().split('\n').sort()).toEqual(
        [
          ...kept.trim().split('\n'),
          `customresourcedefinition.apiextensions.k8s.io/${definition}`,
        ].sort(),
      );
      await uninstall();
      await untilNoTrace(mesh.kubeconfig);
    }, 300_000);
  });

  test('chart by chart: the mesh works, one is upgraded, and nothing is left', async () => {
    const base = ['base', '--wait'] as const;
    const said = await done(applyChart(...base));
    expect(said).toContain(
      `Kept as it was, because it is of release ambit in namespace ${systemNamespace}: CustomResourceDefinition ${definition}`,
    );
    const [command = ''] = /kubectl annotate crd .*/.exec(said) ?? [];
    kubectl(...command.split(' ').slice(1));
    expect(await done(applyChart(...base))).not.toContain('Kept as it was');
    await done(applyChart('controller', '--wait'));
    await done(applyChart('ztunnel'));
    await done(applyChart('cni-redirect', '--wait'));
    await done(helm('list', '-o', 'json')).then((text) => {
      const releases = JSON.parse(text) as readonly { name: string; status: string }[];
      expect(releases.map(({ name, status }) => [name, status]).sort()).toEqual(
        ['base', 'cni-redirect', 'controller', 'ztunnel'].map((name) => [name, 'deployed']),
      );
    });
    await works();
    const gateway = join(root, 'charts/gateway');
    await done(helm('install', 'waypoint', gateway, '-n', 'shop', '--wait', '--timeout', '5m'));
    await throughWaypoint();

    const before = await controllers();
    await done(applyChart('controller', '--set', 'logLevel=debug', '--wait'));
    expect((await controllers()).filter((name) => before.includes(name))).toEqual([]);
    await works();
    await throughWaypoint();

    await done(helm('uninstall', 'waypoint', '-n', 'shop', '--wait'));
    for (const chart of ['cni-redirect', 'ztunnel', 'controller', 'base'])
      await done(helm('uninstall', chart, ...wait));
    await untilNoTrace(mesh.kubeconfig);
    const stranger = await mesh.pod('outside', { app: 'stranger' });
    await nowAnswers(mesh, stranger, 'direct.shop');
  }, 600_000);

  const controllers = async (): Promise<string[]> =>
    (await mesh.cluster.pods(systemNamespace))
      .filter(({ labels, ready }) => ready && labels.get('app') === 'ambit-controller')
      .map(({ name }) => name);

  const client = () => mesh.pod('clients', { app: 'client' });

  /** Who is in the mesh reaches who demands mutual TLS, and others do not. */
  async function works(): Promise<void> {
    const stranger = await mesh.pod('outside', { app: 'stranger' });
    await until(
      async () => (await askEcho(mesh, stranger, 'direct.shop')) === undefined || undefined,
      60_000,
    );
    await nowAnswers(mesh, await client(), 'direct.shop');
    const seen = await askEcho(mesh, await client(), 'direct.shop');
    expect(seen?.caller).toBe((await client()).ip);
    expect(await askEcho(mesh, stranger, 'direct.shop')).toBeUndefined();
  }

  const throughWaypoint = (): Promise<true> =>
    until(async () => {
      const seen = await askEcho(mesh, await client(), 'bound.shop');
      return seen?.caller === (await mesh.pod('shop', waypointLabels)).ip || undefined;
    }, 60_000);
});

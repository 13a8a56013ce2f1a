import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { stateKeyName } from '@ambit/api';
import { describe, expect, test } from '@jest/globals';
import { parse, parseAllDocuments } from 'yaml';
import { parseConfig as parseAgent } from '../../packages/cni-redirect/src/agent/config.ts';
import { parseConfig as parseController } from '../../packages/controller/src/config.ts';
import { parseConfig as parseUninstall } from '../../packages/controller/src/uninstall/config.ts';
import { parseConfig as parseZtunnel } from '../../packages/ztunnel/src/config.ts';
import type { Chart, KubeObject } from './helm.ts';
import { charts, find, helm, namespace, render, renderText, root } from './helm.ts';

describe('every chart', () => {
  test.each(charts)('%s passes helm lint', (chart) => {
    const { ok, output } = helm('lint', '--strict', join(root, 'charts', chart));
    expect(output).toContain('1 chart(s) linted, 0 chart(s) failed');
    expect(ok).toBe(true);
  });

  test.each(charts)('%s has a word for each of its values, and each value is in its schema', (chart) => {
    const text = readFileSync(join(root, 'charts', chart, 'values.yaml'), 'utf8');
    const schema = schemaOf(chart);
    const values = parse(text) as Record<string, unknown>;
    // These two are a parent's.
    const { enabled, global, ...own } = schema.properties;
    expect([typeof enabled, typeof global]).toEqual(['object', 'object']);
    const names = Object.keys(values).filter((name) => name !== 'global');
    expect(names.sort()).toEqual(Object.keys(own).sort());
    expect(schema.additionalProperties).toBe(false);
    expect(text.split('\n').filter(lacksComment)).toEqual([]);
  });

  test.each(charts)('%s renders for every Kubernetes from 1.30 on, and not for an older one', (chart) => {
    const first = renderText(chart, { kubeVersion: '1.30.0', release: 'a' });
    for (const minor of [31, 32, 33, 34, 35, 36]) {
      expect(renderText(chart, { kubeVersion: `1.${minor}.0`, release: 'a' })).toBe(first);
    }
    expect(() => renderText(chart, { kubeVersion: '1.29.9' })).toThrow(/kubeVersion: >=1\.30/);
  });

  test('has the version of package.json, and so do its images', () => {
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      version: string;
    };
    for (const chart of charts) {
      const file = readFileSync(join(root, 'charts', chart, 'Chart.yaml'), 'utf8');
      const { version: own, appVersion } = parse(file) as Record<string, string>;
      expect([chart, own, appVersion]).toEqual([chart, version, version]);
    }
    const images = new Set(render('ambit').flatMap(containersOf).map(({ image }) => image));
    expect([...images].sort()).toEqual(
      ['cni-redirect', 'controller', 'ztunnel'].map((name) => `ambit/${name}:${version}`),
    );
  });

  test('says the same of what all charts share', () => {
    const shared = ['controller', 'ztunnel', 'cni-redirect', 'ambit'] as const;
    const values = shared.map((chart) => {
      const text = readFileSync(join(root, 'charts', chart, 'values.yaml'), 'utf8');
      return (parse(text) as { global: unknown }).global;
    });
    const schemas = shared.map((chart) => schemaOf(chart).properties['global']);
    for (const one of values) expect(one).toEqual(values[0]);
    for (const one of schemas) expect(one).toEqual(schemas[0]);
  });
});

/** A value without a comment above it. What only holds others is told of by them. */
function lacksComment(line: string, index: number, lines: readonly string[]): boolean {
  return /^ *[\w-]+: *\S/.test(line) && !/^ *# \S/.test(lines[index - 1] ?? '');
}

interface Schema {
  readonly properties: Readonly<Record<string, unknown>>;
  readonly additionalProperties: boolean;
}

function schemaOf(chart: Chart): Schema {
  const file = join(root, 'charts', chart, 'values.schema.json');
  return JSON.parse(readFileSync(file, 'utf8')) as Schema;
}

describe('the umbrella', () => {
  test('is the single charts and nothing else', () => {
    const names = (objects: readonly KubeObject[]) =>
      objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`).sort();
    const single = (['base', 'controller', 'ztunnel', 'cni-redirect'] as const).flatMap((chart) =>
      render(chart),
    );
    expect(names(render('ambit'))).toEqual(names(single));
  });

  test('hands what is global to all of them', () => {
    const values = { 'global.hub': 'registry.example/mesh', 'global.tag': '9.9.9' };
    const images = render('ambit', { values: { ...values, 'global.logAsJson': true } });
    const containers = images.flatMap(containersOf);
    expect(containers).toHaveLength(5);
    for (const { image, env } of containers) {
      expect(image).toMatch(/^registry\.example\/mesh\/[a-z-]+:9\.9\.9$/);
      expect(env).toContainEqual({ name: 'LOG_FORMAT', value: 'json' });
    }
  });
});

interface Container {
  readonly name: string;
  readonly image: string;
  readonly env: readonly { readonly name: string; readonly value?: string }[];
  readonly securityContext: Readonly<Record<string, unknown>> & {
    readonly capabilities: { readonly drop: string[]; readonly add?: string[] };
  };
}

function seccompOf(spec: unknown): unknown {
  const { template } = spec as {
    template: { spec: { securityContext?: { seccompProfile?: unknown } } };
  };
  return template.spec.securityContext?.seccompProfile;
}

function containersOf(object: KubeObject): readonly Container[] {
  const spec = object['spec'] as { template?: { spec: { containers: Container[] } } } | undefined;
  return spec?.template?.spec.containers ?? [];
}

describe('a program finds in its environment what it reads', () => {
  const controller = { 'controller.revision': 'r', 'controller.servingNames': ['mesh.example'] };
  test.each([
    ['Deployment', 'ambit-controller', parseController, controller],
    ['DaemonSet', 'ztunnel', parseZtunnel, {}],
    ['DaemonSet', 'cni-redirect', parseAgent, {}],
    ['Job', 'ambit-uninstall-release', parseUninstall, {}],
    ['Job', 'ambit-uninstall-remove', parseUninstall, {}],
  ])('%s %s', (kind, name, parseConfig, values) => {
    const aliases = { 'controller.trustDomainAliases': ['old.example'] };
    const objects = render('ambit', { values: { ...values, ...aliases } });
    const [container] = containersOf(find(objects, kind, name));
    const env = new Map(container!.env.map(({ name: key, value }) => [key, value ?? 'x']));
    const read = new Set<string>();
    parseConfig({
      get: (key) => {
        read.add(key);
        return env.get(key);
      },
    });
    // Those are for whoever reads the pod.
    const informative = new Set(['POD_NAME', 'POD_NAMESPACE']);
    expect([...env.keys()].filter((key) => !read.has(key) && !informative.has(key))).toEqual([]);
  });
});

test('the key of what ztunnel keeps on the disk is where the agent removes it', () => {
  const objects = render('ambit');
  const envOf = (name: string) => {
    const [container] = containersOf(find(objects, 'DaemonSet', name));
    return new Map(container!.env.map(({ name: key, value }) => [key, value ?? 'x']));
  };
  const { ztunnelSocket } = parseAgent(envOf('cni-redirect'));
  expect(envOf('ztunnel').get('STATE_KEY_FILE')).toBe(join(dirname(ztunnelSocket), stateKeyName));
});

test('the controller of a namespace of its own is where the proxies look for it', () => {
  const [container] = containersOf(find(render('ztunnel'), 'DaemonSet', 'ztunnel'));
  expect(container!.env).toContainEqual({
    name: 'CONTROLLER_ADDRESS',
    value: `ambit-controller.${namespace}.svc:15012`,
  });
});

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

/** Every single right of the roles among some objects. */
function rightsOf(objects: readonly KubeObject[]): string[] {
  return objects
    .filter(({ kind }) => kind === 'ClusterRole' || kind === 'Role')
    .flatMap(({ kind, metadata, ...rest }) =>
      (rest['rules'] as Rule[]).flatMap(({ apiGroups, resources, resourceNames, verbs }) =>
        apiGroups.flatMap((group) =>
          resources.flatMap((resource) =>
            verbs.map(
              (verb) =>
                `${kind} ${metadata.name}: ${verb} ${resource}.${group} ${resourceNames?.join() ?? ''}`,
            ),
          ),
        ),
      ),
    )
    .sort();
}

test('the rights are those with which the sandbox runs the same programs, no more and no fewer', () => {
  const file = join(root, 'packages/sandbox/manifests/mesh.yaml');
  const sandbox = parseAllDocuments(readFileSync(file, 'utf8')).map(
    (document) => document.toJS() as KubeObject,
  );
  const running = render('ambit').filter(({ metadata }) => !isOfUninstall(metadata.name));
  expect(rightsOf(running)).toEqual(rightsOf(sandbox));
  // What is validated, too.
  const validated = (objects: readonly KubeObject[]) =>
    (find(objects, 'ValidatingWebhookConfiguration', 'ambit-validator')['webhooks'] as Webhook[])
      .map(({ name, rules, namespaceSelector }) => ({ name, rules, namespaceSelector }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  expect(validated(running)).toEqual(validated(sandbox));
});

test('what runs around an uninstall does so on every node but one that is dead', () => {
  const jobs = render('ambit').filter(({ kind }) => kind === 'Job');
  expect(jobs.map(({ metadata }) => metadata.name).sort()).toEqual([
    'ambit-uninstall-release',
    'ambit-uninstall-remove',
  ]);
  for (const job of jobs) {
    const { template } = job['spec'] as { template: { spec: { tolerations: Toleration[] } } };
    const { tolerations } = template.spec;
    const tolerated = (taint: Required<Pick<Toleration, 'key' | 'value' | 'effect'>>): boolean =>
      tolerations.some(
        ({ operator, key, value, effect }) =>
          (key === undefined || key === taint.key) &&
          (operator === 'Exists' || value === taint.value) &&
          (effect === undefined || effect === taint.effect),
      );
    expect(tolerated({ key: 'any', value: 'x', effect: 'NoSchedule' })).toBe(true);
    for (const name of ['unreachable', 'not-ready']) {
      const key = `node.kubernetes.io/${name}`;
      expect(tolerated({ key, value: '', effect: 'NoExecute' })).toBe(false);
      // Else the API server adds one that is tolerated.
      const theirs = tolerations.filter((one) => one.key === key && one.effect === 'NoExecute');
      expect(theirs).toHaveLength(1);
    }
  }
});

interface Toleration {
  readonly operator?: string;
  readonly key?: string;
  readonly value?: string;
  readonly effect?: string;
}

interface Webhook {
  readonly name: string;
  readonly rules: readonly unknown[];
  readonly namespaceSelector: unknown;
}

function isOfUninstall(name: string): boolean {
  return name.startsWith('ambit-uninstall-');
}

describe('privileges', () => {
  test('are none for the controller, and listed ones for what enters the pods', () => {
    const held = Object.fromEntries(
      render('ambit')
        .flatMap(containersOf)
        .map(({ name, securityContext: { capabilities, ...rest } }) => [
          name,
          { capabilities, rest },
        ]),
    );
    expect(held).toEqual({
      controller: {
        capabilities: { drop: ['ALL'] },
        rest: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, runAsNonRoot: true },
      },
      uninstall: {
        capabilities: { drop: ['ALL'] },
        rest: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
      },
      ztunnel: {
        capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW', 'SYS_ADMIN'] },
        rest: { readOnlyRootFilesystem: true, runAsNonRoot: false, runAsUser: 0 },
      },
      agent: {
        capabilities: {
          drop: ['ALL'],
          add: ['NET_ADMIN', 'NET_RAW', 'SYS_ADMIN', 'DAC_OVERRIDE'],
        },
        rest: {
          appArmorProfile: { type: 'Unconfined' },
          readOnlyRootFilesystem: true,
          runAsNonRoot: false,
          runAsUser: 0,
        },
      },
    });
  });

  test('leave no program the system calls that the runtime keeps from containers', () => {
    const profiles = (values: Readonly<Record<string, unknown>> = {}) =>
      Object.fromEntries(
        render('ambit', { values }).flatMap(({ kind, metadata, ...rest }) =>
          ['Deployment', 'DaemonSet', 'Job'].includes(kind)
            ? [[metadata.name, seccompOf(rest['spec'])]]
            : [],
        ),
      );
    expect(profiles()).toEqual({
      'ambit-controller': { type: 'RuntimeDefault' },
      ztunnel: { type: 'RuntimeDefault' },
      'cni-redirect': { type: 'RuntimeDefault' },
      'ambit-uninstall-release': { type: 'RuntimeDefault' },
      'ambit-uninstall-remove': { type: 'RuntimeDefault' },
    });
    const local = { type: 'Localhost', localhostProfile: 'mesh.json' };
    expect(profiles({ 'ztunnel.seccompProfile': local })).toMatchObject({ ztunnel: local });
  });

  test('that GKE admits with a quota only are asked for with one', () => {
    const kubeVersion = 'v1.31.5-gke.1068000';
    for (const chart of ['controller', 'ztunnel', 'cni-redirect', 'ambit'] as const) {
      const onGke = (values: Readonly<Record<string, unknown>>) => () =>
        renderText(chart, { kubeVersion, values });
      expect(onGke({})).toThrow(
        /global\.platform: this is GKE, where pods of priorityClassName system-\S+ are made in .*; set global\.platform to gke/,
      );
      expect(onGke({ 'global.platform': 'gke' })).not.toThrow();
    }
    const values = { 'resourceQuotas.enabled': true };
    expect(() => renderText('ztunnel', { kubeVersion, values })).not.toThrow();
    const plain = { priorityClassName: '' };
    expect(() => renderText('ztunnel', { kubeVersion, values: plain })).not.toThrow();
  });

  test('a platform gets what it asks for', () => {
    const on = (platform: string) => render('ambit', { values: { 'global.platform': platform } });
    const quotas = on('gke').filter(({ kind }) => kind === 'ResourceQuota');
    expect(quotas.map(({ metadata }) => metadata.name).sort()).toEqual([
      'ambit-controller-resource-quota',
      'cni-redirect-resource-quota',
      'ztunnel-resource-quota',
    ]);
    const constrained = on('openshift').filter(({ metadata }) => metadata.name.endsWith('-scc'));
    expect(constrained.map(({ kind, metadata }) => `${kind} ${metadata.name}`).sort()).toEqual([
      'Role cni-redirect-scc',
      'Role ztunnel-scc',
      'RoleBinding cni-redirect-scc',
      'RoleBinding ztunnel-scc',
    ]);
    const binDir = (platform: string) =>
      /name: cni-bin, hostPath: \{ path: (\S+),/.exec(
        renderText('cni-redirect', { values: { 'global.platform': platform } }),
      )?.[1];
    expect(['', 'gke', 'k3s', 'k3d', 'talos'].map(binDir)).toEqual([
      '/opt/cni/bin',
      '/home/kubernetes/bin',
      '/var/lib/rancher/k3s/data/cni',
      '/var/lib/rancher/k3s/data/cni',
      '/opt/cni/bin',
    ]);
  });
});

describe('a value that cannot work is refused with a sentence', () => {
  test('gateway: as many proxies that stay as there may be at least', () => {
    const scaled = (minReplicas: number) => () =>
      renderText('gateway', {
        values: { autoscaling: { enabled: true, minReplicas }, podDisruptionBudget: { enabled: true } },
      });
    expect(scaled(1)).toThrow(/minAvailable 1 of autoscaling\.minReplicas 1 proxies lets no node/);
    expect(scaled(2)).not.toThrow();
  });

  test.each<readonly [Chart, string, unknown, RegExp]>([
    ['controller', 'replicaCount', 0, /a mesh without a controller gives no certificates/],
    ['controller', 'replicas', 3, /additional properties 'replicas' not allowed/],
    ['controller', 'podDisruptionBudget.minAvailable', 2, /lets no node be drained/],
    ['controller', 'rollingMaxSurge', 0, /no new version could ever come/],
    ['controller', 'meshConfig.trustDomain', 'other', /set global\.trustDomain to it/],
    ['controller', 'env.TRUST_DOMAIN', 'x', /env\.TRUST_DOMAIN is set by a value of its own/],
    ['controller', 'certificateTtl', 'soon', /certificateTtl.*does not match pattern/s],
    ['controller', 'global.platform', 'moon', /value must be one of/],
    ['controller', 'global.trustDomain', 'a/b', /trustDomain.*does not match pattern/s],
    ['ztunnel', 'xdsAddress', 'controller', /is not host:port/],
    ['ztunnel', 'updateStrategy.rollingUpdate.maxUnavailable', 1, /either maxSurge or/],
    ['cni-redirect', 'updateStrategy.rollingUpdate.maxUnavailable', 1, /either maxSurge or/],
    ['cni-redirect', 'cniBinDir', 'opt/cni', /cniBinDir.*does not match pattern/s],
    ['gateway', 'gatewayClassName', 'istio', /this release serves istio-waypoint only/],
    ['gateway', 'autoscaling', { enabled: true, minReplicas: 9 }, /is more than maxReplicas/],
    ['gateway', 'labels', { 'istio.io/waypoint-for': 'all' }, /labels: istio\.io\/waypoint-for is/],
    ['controller', 'podLabels', { app: 'mine' }, /podLabels: app is a label of the chart's own/],
    ['ztunnel', 'podLabels', { 'istio.io/dataplane-mode': 'ambient' }, /label of the chart's own/],
    ['controller', 'env', { REVISION: 'a' }, /env\.REVISION is set by a value of its own/],
    ['cni-redirect', 'uninstall.timeout', '600s', /uninstall\/timeout|uninstall\.timeout/],
    ['ambit', 'global.tag', 'sha256:abc', /the digest of one image, and several are run/],
    ['ambit', 'controler', {}, /additional properties 'controler' not allowed/],
  ])('%s %s = %j', (chart, path, value, sentence) => {
    const values = { [path]: value };
    expect(() => renderText(chart, { values })).toThrow(sentence);
  });
});

test('definitions are kept when the mesh goes, and can be left out', () => {
  const definitions = (values: Record<string, unknown>) =>
    render('base', { values }).filter(({ kind }) => kind === 'CustomResourceDefinition');
  const all = definitions({});
  const files = readdirSync(join(root, 'charts/base/files/crds'));
  expect(all.map(({ metadata }) => `${metadata.name}.yaml`).sort()).toEqual(files.sort());
  for (const { metadata } of all) {
    const annotations = (metadata as { annotations?: Record<string, string> }).annotations;
    expect(annotations).toEqual({ 'helm.sh/resource-policy': 'keep' });
  }
  expect(definitions({ enableCRDTemplates: false })).toEqual([]);
  const excludedCRDs = ['virtualservices.networking.istio.io'];
  expect(definitions({ excludedCRDs })).toHaveLength(all.length - 1);
});

test('waypoints that the controller deploys are pulled and sized as global says', () => {
  const envOf = (values: Readonly<Record<string, unknown>>): unknown => {
    const spec = find(render('ambit', { values }), 'Deployment', 'ambit-controller')['spec'];
    return (spec as { template: { spec: { containers: { env: unknown }[] } } }).template.spec
      .containers[0]?.env;
  };
  const said = envOf({
    'global.imagePullPolicy': 'Always',
    'global.imagePullSecrets': ['registry', 'mirror'],
    'global.waypoint.resources': { limits: { memory: '1Gi' } },
  });
  for (const [name, value] of [
    ['WAYPOINT_IMAGE_PULL_POLICY', 'Always'],
    ['WAYPOINT_IMAGE_PULL_SECRETS', 'registry,mirror'],
    ['WAYPOINT_RESOURCES', '{"limits":{"memory":"1Gi"},"requests":{"cpu":"100m","memory":"128Mi"}}'],
  ])
    expect(said).toContainEqual({ name, value });
  expect(JSON.stringify(envOf({}))).not.toMatch(/WAYPOINT_IMAGE_PULL/);
});

test('a gateway is a waypoint of its namespace, with what scales it', () => {
  const values = { 'autoscaling.enabled': true, 'podDisruptionBudget.enabled': true };
  const objects = render('gateway', { release: 'waypoint', values });
  expect(objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual([
    'PodDisruptionBudget waypoint',
    'HorizontalPodAutoscaler waypoint',
    'Gateway waypoint',
  ]);
  expect(find(objects, 'Gateway', 'waypoint')['spec']).toEqual({
    gatewayClassName: 'istio-waypoint',
    listeners: [
      {
        name: 'mesh',
        port: 15008,
        protocol: 'HBONE',
        allowedRoutes: { namespaces: { from: 'Same' } },
      },
    ],
  });
});

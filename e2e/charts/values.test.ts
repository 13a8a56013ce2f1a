import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { EnvSource } from '@ambit/core';
import { describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import {
  parseConfig as parseAgent,
  stopDeadlineMs as agentStopDeadlineMs,
} from '../../packages/cni-redirect/src/agent/config.ts';
import {
  parseConfig as parseController,
  stopDeadlineMs as controllerStopDeadlineMs,
} from '../../packages/controller/src/config.ts';
import { createMeshConfigDecoder } from '../../packages/controller/src/kube/decode/mesh-config.ts';
import { meshConfigSchema } from '../../packages/controller/src/resources/mesh-config-schema.ts';
import { parseConfig as parseZtunnel, stopDeadlineMs } from '../../packages/ztunnel/src/config.ts';
import type { Chart } from './helm.ts';
import { charts, find, helm, namespace, render, renderText, root } from './helm.ts';

/** What a chart lets through and what its program takes, held against each other, so that the two cannot drift apart. */
interface Program {
  readonly chart: Chart;
  readonly kind: string;
  readonly name: string;
  readonly parse: (env: EnvSource) => unknown;
  /** Values with which every variable is set that the chart can set. */
  readonly everything: Readonly<Record<string, unknown>>;
}

const controller: Program = {
  chart: 'controller',
  kind: 'Deployment',
  name: 'ambit-controller',
  parse: parseController,
  everything: {
    revision: 'r',
    servingNames: ['mesh.example'],
    trustDomainAliases: ['old.example'],
    'global.imagePullPolicy': 'Always',
    'global.imagePullSecrets': ['registry'],
  },
};
const ztunnel: Program = {
  chart: 'ztunnel',
  kind: 'DaemonSet',
  name: 'ztunnel',
  parse: parseZtunnel,
  everything: {},
};
const agent: Program = {
  chart: 'cni-redirect',
  kind: 'DaemonSet',
  name: 'cni-redirect',
  parse: parseAgent,
  everything: {},
};

type Values = Readonly<Record<string, unknown>>;

function envOf({ chart, kind, name }: Program, values: Values = {}): Map<string, string> {
  const { spec } = find(render(chart, { values }), kind, name) as unknown as {
    spec: {
      template: { spec: { containers: { env: { name: string; value?: string }[] }[] } };
    };
  };
  const [container] = spec.template.spec.containers;
  return new Map(container?.env.map((one) => [one.name, one.value ?? 'x']));
}

const envByName = new Map<string, ReadonlyMap<string, string>>();
/** As it comes; rendered once. */
function defaultEnv(program: Program): ReadonlyMap<string, string> {
  const env = envByName.get(program.name) ?? envOf(program);
  envByName.set(program.name, env);
  return env;
}

/** Whether the program starts when its variable is this. */
function starts({ parse }: Program, env: ReadonlyMap<string, string>): boolean {
  try {
    parse(env);
    return true;
  } catch {
    return false;
  }
}

function renders(chart: Chart, values: Values): boolean {
  try {
    renderText(chart, { values });
    return true;
  } catch {
    return false;
  }
}

describe.each([controller, ztunnel, agent])('variables of $name', (program) => {
  const { chart, parse, everything } = program;
  const tpl = readFileSync(join(root, 'charts', chart, 'templates/_helpers.tpl'), 'utf8');
  const [, set = '', fixed = ''] =
    /"ambit\.checkEnv" \(list \S+ \(list ([^)]*)\) \(list ([^)]*)\)\)/.exec(tpl) ?? [];
  const names = (text: string): string[] => [...text.matchAll(/"(\w+)"/g)].map(([, one]) => one!);
  const schema = JSON.parse(
    readFileSync(join(root, 'charts', chart, 'values.schema.json'), 'utf8'),
  ) as { properties: { env: { properties?: object } } };
  const open = Object.keys(schema.properties.env.properties ?? {});

  test('are each set by a value, held by the chart, or checked by its schema', () => {
    const rendered = envOf(program, everything);
    expect(names(set).sort()).toEqual([...rendered.keys()].sort());
    const read = new Set<string>();
    parse({ get: (key) => (read.add(key), rendered.get(key)) });
    const own = ['POD_NAME', 'POD_NAMESPACE'];
    expect([...names(set), ...names(fixed), ...open].sort()).toEqual([
      ...new Set([...read, ...own]),
    ].sort());
  });

  test('that others decide are refused with a sentence', () => {
    expect(() => renderText(chart, { values: { [`env.${names(set)[0]!}`]: 'x' } })).toThrow(
      /is set by a value of its own; set that one/,
    );
    expect(() => renderText(chart, { values: { [`env.${names(fixed)[0]!}`]: 'x' } })).toThrow(
      /cannot be set: ports, folders and rights of this chart are those of its default; take it out/,
    );
  });

  test('that are whole numbers of a file are written as such', () => {
    const env = envOf(program, { env: { A: 12_000_000, B: 1.5, C: true } });
    expect(['A', 'B', 'C'].map((name) => env.get(name))).toEqual(['12000000', '1.5', 'true']);
  });
});

const domains = { good: ['a', 'a.b-c_d.e'], bad: ['-a', 'a-', 'a..b', 'A', 'a/b', 'a'.repeat(256)] };
const levels = { good: ['trace', 'fatal'], bad: ['loud', 'INFO'] };
const timers = { good: ['0s', '1h30m', '596h'], bad: ['597h', '5', 'soon', '-1s', '1d'] };
const text = (value: unknown): string => (Array.isArray(value) ? value.join(',') : String(value));

type Row = readonly [
  program: Program,
  path: string,
  variable: string,
  samples: { readonly good: readonly unknown[]; readonly bad: readonly unknown[] },
  write?: (value: unknown) => string,
  /** Values without which the chart would have something else against them. */
  beside?: Values,
];
const inList = ({ good, bad }: Row[3]): Row[3] => ({
  good: good.map((one) => [one]),
  bad: bad.map((one) => [one]),
});

const rows: readonly Row[] = [
  [controller, 'global.trustDomain', 'TRUST_DOMAIN', domains],
  [ztunnel, 'global.trustDomain', 'TRUST_DOMAIN', domains],
  [controller, 'trustDomainAliases', 'TRUST_DOMAIN_ALIASES', inList(domains)],
  [controller, 'global.logging.level', 'LOG_LEVEL', levels],
  [ztunnel, 'logLevel', 'LOG_LEVEL', levels],
  [agent, 'logLevel', 'LOG_LEVEL', levels],
  [
    controller,
    'certificateTtl',
    'CERTIFICATE_TTL',
    { good: ['1m', '60s', '1h30m', '87600h'], bad: ['10s', '59.9s', '999ms', '87601h', 'soon', '5'] },
  ],
  [
    controller,
    'servingNames',
    'SERVING_NAMES',
    inList({
      good: ['mesh.example', '*.mesh.example', '10.0.0.1', 'fd00::1', '2001:db8:0:0:0:0:0:1'],
      bad: ['a b', 'a..b', '-a', 'https://a', '::::', '1:2:3'],
    }),
  ],
  [
    controller,
    'global.waypoint.resources',
    'WAYPOINT_RESOURCES',
    {
      good: [
        { limits: { cpu: 2 } },
        { requests: { cpu: '1.5', memory: '1e3' } },
        { requests: { cpu: '1000m', memory: '1Gi' }, limits: { cpu: 1, memory: '1073741824' } },
        { requests: { memory: '1e9' }, limits: { memory: '1.0G' } },
      ],
      bad: [
        { limits: { cpu: 'much' } },
        { limits: { memory: -1 } },
        { limit: { cpu: 1 } },
        { requests: { cpu: '1001m' }, limits: { cpu: 1 } },
        { requests: { memory: '128Mi' }, limits: { memory: '128M' } },
        { requests: { memory: '1.1E' }, limits: { memory: '1e18' } },
      ],
    },
    (value) => JSON.stringify(value),
  ],
  [controller, 'env.PUSH_DEBOUNCE', 'PUSH_DEBOUNCE', { good: ['0s', '1s'], bad: ['1001ms', '5'] }],
  [
    controller,
    'env.PUSH_DEBOUNCE_MAX',
    'PUSH_DEBOUNCE_MAX',
    { good: ['10ms', '596h'], bad: ['9ms', '597h'] },
  ],
  [
    controller,
    'env.CLUSTER_DOMAIN',
    'CLUSTER_DOMAIN',
    { good: ['mesh.local', 'local'], bad: ['-a', 'a..b', 'a b'] },
  ],
  [
    controller,
    'env.TRUSTED_NODE_ACCOUNTS',
    'TRUSTED_NODE_ACCOUNTS',
    { good: ['mesh/ztunnel', 'a/b, c/d.e'], bad: ['ztunnel', 'a/b/c', 'a/b, c'] },
  ],
  [
    controller,
    'env.JWKS_ALLOWED_CIDRS',
    'JWKS_ALLOWED_CIDRS',
    {
      good: ['10.20.0.0/24', '10.0.0.1, fd00::/8'],
      bad: ['10.0.0.0/33', '10.0.0.256', 'mesh.example', 'fd00::/129', '10.0.0.0/8 fd00::/8'],
    },
  ],
  [
    controller,
    'env.ADVERTISED_ADDRESS',
    'ADVERTISED_ADDRESS',
    { good: ['mesh.example:15012', '[::1]:1'], bad: ['mesh', 'mesh:65536', 'a b:1', '::1:1'] },
    text,
    { servingNames: ['mesh.example', '::1'] },
  ],
  [
    ztunnel,
    'xdsAddress',
    'CONTROLLER_ADDRESS',
    { good: ['mesh.example:15012', '[::1]:1'], bad: ['mesh', 'mesh:0', 'mesh:65536', 'a b:1'] },
  ],
  [
    ztunnel,
    'terminationDrainSeconds',
    'TERMINATION_DRAIN',
    { good: [0, 3600], bad: [-1, 0.5e-7] },
    (value) => `${String(value)}s`,
  ],
  [
    ztunnel,
    'maxConnectionsPerPod',
    'MAX_CONNECTIONS_PER_POD',
    { good: [1, 1_000_000], bad: [0, -1, 1.5, 1_000_001] },
  ],
  [ztunnel, 'env.CONNECT_TIMEOUT', 'CONNECT_TIMEOUT', timers],
  [ztunnel, 'env.WAIT_TIMEOUT', 'WAIT_TIMEOUT', timers],
  [ztunnel, 'env.RELEASE_LINGER', 'RELEASE_LINGER', timers],
  [ztunnel, 'env.STATE_MAX_AGE', 'STATE_MAX_AGE', { good: ['0s', '8760h'], bad: ['8761h', '5'] }],
  // That a pod has the time for it is checked below.
  [agent, 'releaseGrace', 'RELEASE_GRACE', { good: ['0s', '4.5s'], bad: timers.bad }],
];

describe('a pod has the time that its program takes to end', () => {
  const graceOf = ({ chart, kind, name }: Program, values: Values): number => {
    const { spec } = find(render(chart, { values }), kind, name) as unknown as {
      spec: { template: { spec: { terminationGracePeriodSeconds: number } } };
    };
    return spec.template.spec.terminationGracePeriodSeconds * 1_000;
  };

  test.each([0, 20, 3600])('of a node proxy that drains for %d seconds', (drain) => {
    const values = { terminationDrainSeconds: drain };
    const deadlineMs = stopDeadlineMs(parseZtunnel(envOf(ztunnel, values)));
    expect(deadlineMs).toBeGreaterThan(drain * 1_000);
    expect(deadlineMs).toBeLessThan(graceOf(ztunnel, values));
  });

  test('of a node agent that lets go of its pods', () => {
    const values = (releaseGrace: string, terminationGracePeriodSeconds: number) => ({
      releaseGrace,
      terminationGracePeriodSeconds,
    });
    const least = values('30s', 55);
    const deadlineMs = agentStopDeadlineMs(parseAgent(envOf(agent, least)));
    expect(deadlineMs).toBeGreaterThan(50_000);
    expect(deadlineMs).toBeLessThan(graceOf(agent, least));
    expect(() => renderText('cni-redirect', { values: values('30s', 54) })).toThrow(
      /in 54 seconds a pod is killed before it has released .* takes releaseGrace 30s .* 55 or more/,
    );
  });

  test('of a controller', () => {
    const least = { terminationGracePeriodSeconds: 22 };
    expect(controllerStopDeadlineMs).toBeLessThan(graceOf(controller, least));
    expect(() => renderText('controller', { values: { terminationGracePeriodSeconds: 21 } })).toThrow(
      /is killed before it has handed over .*; set it to 22 or more/,
    );
  });
});

test.each(rows.map((row): [string, string, Row] => [row[0].chart, row[1], row]))(
  'the chart %s takes as %s what its program takes, and refuses what it refuses',
  (_chart, _path, [program, path, variable, { good, bad }, write = text, beside = {}]) => {
    const env = defaultEnv(program);
    const verdicts = [...good, ...bad].map((value) => ({
      value,
      chart: renders(program.chart, { ...beside, [path]: value }),
      program: starts(program, new Map([...env, [variable, write(value)]])),
    }));
    expect(verdicts).toEqual([
      ...good.map((value) => ({ value, chart: true, program: true })),
      ...bad.map((value) => ({ value, chart: false, program: false })),
    ]);
  },
  60_000,
);

describe('meshConfig', () => {
  const provider = (kind: string, more: object = {}) => ({
    extensionProviders: [{ name: 'a', [kind]: { service: 'a.b', port: 80, ...more } }],
  });
  const good: readonly object[] = [
    {},
    { trustDomain: 'cluster.local', accessLogFile: '', accessLogEncoding: 'JSON' },
    { ...provider('opentelemetry', { port: 65_535 }), defaultProviders: { tracing: ['a'] } },
    provider('envoyExtAuthzHttp', { service: 'ns/A.b', timeout: '1h1.5s', pathPrefix: '/check' }),
    { defaultConfig: { tracing: { sampling: 10 }, holdApplicationUntilProxyStarts: true } },
    { discoverySelectors: [{ matchExpressions: [{ key: 'a', operator: 'Exists' }] }] },
    { pathNormalization: { normalization: 'DECODE_AND_MERGE_SLASHES' } },
    // Istio's, and not read here: it does nothing.
    { outboundTrafficPolicy: { mode: 'ALLOW_ANY' } },
  ];
  const bad: readonly object[] = [
    { accessLogEncoding: 'XML' },
    { accessLogFile: 5 },
    { enableTracing: 'yes' },
    { extensionProviders: {} },
    { extensionProviders: [{ name: 'a' }] },
    { extensionProviders: [{ name: 'a', prometheus: {}, zipkin: { service: 'a.b', port: 1 } }] },
    { extensionProviders: [{ name: 'a', datadog: { service: 'a.b', port: 1 } }] },
    provider('opentelemetry', { port: 0 }),
    provider('opentelemetry', { service: 'a b' }),
    provider('zipkin', { timeout: 'soon' }),
    provider('envoyExtAuthzGrpc', { timout: '1s' }),
    provider('envoyExtAuthzHttp', { statusOnError: '999' }),
    { defaultProviders: { tracing: ['nobody'] } },
    { defaultProviders: { traces: [] } },
    { defaultConfig: { tracing: { sampling: 101 } } },
    { discoverySelectors: [{ matchLabel: { a: 'b' } }] },
    { discoverySelectors: [{ matchExpressions: [{ key: 'a', operator: 'Like' }] }] },
    { pathNormalization: { normalization: 'NONE' } },
  ];

  const problemsOf = (meshConfig: object) => {
    const decode = createMeshConfigDecoder(() => undefined);
    const meta = { name: 'istio', namespace, labels: new Map(), annotations: new Map() };
    const decoded = decode({ data: { mesh: stringify(meshConfig) } }, meta as never);
    return decoded.ok ? decoded.value.problems : [decoded.error];
  };

  test('is refused where the controller would leave something of it out', () => {
    const verdicts = [...good, ...bad].map((value) => ({
      value,
      chart: renders('controller', { meshConfig: value }),
      controller: problemsOf(value).every(({ admissible }) => admissible === true),
    }));
    expect(verdicts).toEqual([
      ...good.map((value) => ({ value, chart: true, controller: true })),
      ...bad.map((value) => ({ value, chart: false, controller: false })),
    ]);
  }, 60_000);

  test('of what is not read whoever installs is told, of what is read not', () => {
    const read = Object.keys(meshConfigSchema()['properties'] as object);
    const silent = ['rootNamespace', 'trustDomainAliases', 'enablePrometheusMerge'];
    const told = (chart: Chart, path: string): string[] => {
      const meshConfig = { ingressClass: 'a', acessLogFile: '/dev/stdout' };
      const where = ['-n', namespace, '--dry-run=client'];
      const values = ['--set-json', `${path}=${JSON.stringify(meshConfig)}`];
      const { output } = helm('install', 'a', join(root, 'charts', chart), ...where, ...values);
      return output.split('\n').filter((line) => line.startsWith('Not read'));
    };
    const line = (name: string): string => `Not read, it has no effect: meshConfig.${name}`;
    expect(told('controller', 'meshConfig')).toEqual([line('acessLogFile'), line('ingressClass')]);
    expect(told('ambit', 'controller.meshConfig')).toEqual([
      line('acessLogFile'),
      line('ingressClass'),
    ]);
    const tpl = readFileSync(join(root, 'charts/controller/templates/_helpers.tpl'), 'utf8');
    const [, list = ''] = /\$read := list ([^}]*)/.exec(tpl) ?? [];
    const known = [...list.matchAll(/"(\w+)"/g)].map(([, one]) => one!);
    expect(known.sort()).toEqual([...read, ...silent].sort());
    const unread = known.flatMap((name) => problemsOf({ [name]: {} }));
    expect(unread.filter(({ admissible }) => admissible === true)).toEqual([]);
  }, 60_000);
});

describe('a value that no cluster takes is refused before anything is changed', () => {
  test.each<readonly [Chart, Values, RegExp]>([
    ['controller', { rollingMaxSurge: '0%', rollingMaxUnavailable: '0%' }, /are both 0/],
    ['controller', { replicaCount: -1 }, /replicaCount/],
    ['controller', { resources: { limits: { memory: 'lots' } } }, /limits\/memory.*pattern/],
    ['controller', { 'webhook.timeoutSeconds': 31 }, /webhook\/timeoutSeconds.*maximum/],
    ['controller', { hub: 'https://registry.example' }, /hub.*pattern/],
    ['controller', { image: 'controller:1' }, /image.*pattern/],
    ['controller', { podLabels: { a: 'not a label' } }, /podLabels\/a.*pattern/],
    ['controller', { tolerations: [{ operater: 'Exists' }] }, /'operater' not allowed/],
    ['controller', { seccompProfile: { type: 'Localhost' } }, /set localhostProfile/],
    ['ztunnel', { seccompProfile: { type: 'Localhost' } }, /set localhostProfile/],
    ['cni-redirect', { 'seccompProfile.type': 'None' }, /seccompProfile\/type.*one of/],
    ['controller', { 'serviceMonitor.interval': '1.5s' }, /interval.*pattern/],
    [
      'controller',
      { 'resources.requests.memory': '2Gi' },
      /resources: requests\.memory 2Gi is more than limits\.memory 1Gi/,
    ],
    [
      'ztunnel',
      { 'resources.limits.cpu': '100m' },
      /resources: requests\.cpu 200m is more than limits\.cpu 100m/,
    ],
    [
      'cni-redirect',
      { 'resources.requests.memory': 1e9 },
      /resources: requests\.memory 1e\+09 is more than limits\.memory 512Mi/,
    ],
    [
      'ambit',
      { 'global.waypoint.resources.limits': { cpu: 0.05 } },
      /global\.waypoint\.resources: requests\.cpu 100m is more than limits\.cpu 0\.05/,
    ],
    [
      'controller',
      { autoscaleEnabled: true, 'resources.requests.cpu': null },
      /autoscaleEnabled: .* they ask for none; set resources\.requests\.cpu/,
    ],
    [
      'controller',
      { autoscaleEnabled: true, 'resources.requests.cpu': '0m' },
      /autoscaleEnabled: .* they ask for none; set resources\.requests\.cpu/,
    ],
    [
      'gateway',
      { autoscaling: { enabled: true }, 'global.waypoint.resources.requests': { memory: '1Gi' } },
      /autoscaling\.enabled: .* set global\.waypoint\.resources\.requests\.cpu/,
    ],
    [
      'cni-redirect',
      { releaseGrace: '111s', terminationGracePeriodSeconds: 600 },
      /releaseGrace: within uninstall\.timeout 120s no node .* takes releaseGrace 111s and up to 10s more/,
    ],
    ['ambit', { 'global.tag': 1.1 }, /put it in quotes/],
    [
      'ambit',
      { 'ztunnel.cniNetnsDir': '/other' },
      /ztunnel\.cniNetnsDir \("\/other"\) and cni-redirect\.cniNetnsDir \(""\) .* set both/,
    ],
    [
      'ambit',
      { 'ztunnel.nodeSelector': { role: 'a' } },
      /ztunnel\.nodeSelector asks for role=a and cni-redirect\.nodeSelector does not: .* Set both/,
    ],
    [
      'ztunnel',
      { 'resources.limits.memory': '48Mi' },
      /resources: with limits\.memory 48Mi the program never starts; set it to 64Mi at least, or to null/,
    ],
    [
      'cni-redirect',
      { 'resources.limits.cpu': '1m' },
      /resources: with limits\.cpu 1m the program never starts; set it to 20m at least/,
    ],
    [
      'ambit',
      { 'global.waypoint.resources.limits': { memory: '4Mi' } },
      /global\.waypoint\.resources: with limits\.memory 4Mi the program never starts/,
    ],
    [
      'gateway',
      { 'global.waypoint.resources.limits': { memory: 1e6 } },
      /global\.waypoint\.resources: with limits\.memory 1e\+06 the program never starts/,
    ],
    ['ztunnel', { 'resources.claims': [{ name: 'a' }] }, /'claims' not allowed/],
    ['ambit', { 'global.imagePullSecrets': ['a', 'a'] }, /imagePullSecrets.*are equal/],
    ['controller', { 'resources.limits': { memroy: '1Gi' } }, /invalid propertyName 'memroy'/],
    [
      'controller',
      { autoscaleEnabled: true, 'resources.limits.cpu': '200m', 'cpu.targetAverageUtilization': 101 },
      /cpu\.targetAverageUtilization 101: resources\.limits\.cpu lets no pod take that much/,
    ],
    [
      'controller',
      { 'resourceQuotas.enabled': true, 'resourceQuotas.pods': 1 },
      /resourceQuotas\.pods 1 is less than the 2 controllers that are asked for; make it larger/,
    ],
    [
      'controller',
      { 'env.ADVERTISED_ADDRESS': 'mesh.example:15012' },
      /ADVERTISED_ADDRESS mesh\.example:15012 is none of the names .* add its host to servingNames/,
    ],
    [
      'ambit',
      { 'ztunnel.xdsAddress': 'mesh.example:15012' },
      /ztunnel\.xdsAddress mesh\.example:15012 is none of .* add its host to controller\.servingNames/,
    ],
    ['controller', { topologySpreadConstraints: [{ maxSkew: 1 }] }, /missing properties 'topologyKey'/],
    ['controller', { affinity: { nodeAfinity: {} } }, /'nodeAfinity' not allowed/],
    ['controller', { tolerations: [{ value: 'a' }] }, /tolerations\[0\]: without a key .* set that, or a key/],
    [
      'ztunnel',
      { tolerations: [{ key: 'a', operator: 'Exists', value: 'b' }] },
      /tolerations\[0\]: operator Exists is any value of the taint; take value out/,
    ],
    [
      'ztunnel',
      { tolerations: [{ key: 'a', effect: 'NoSchedule', tolerationSeconds: 5 }] },
      /tolerations\[0\]: tolerationSeconds is of effect NoExecute only/,
    ],
    [
      'cni-redirect',
      { nodeSelector: { 'kubernetes.io/os': 'windows' } },
      /nodeSelector: kubernetes\.io\/os=windows: the images are of Linux; set it to linux/,
    ],
    [
      'ztunnel',
      { seccompProfile: { type: 'Localhost', localhostProfile: '/a/b.json' } },
      /localhostProfile "\/a\/b\.json": it is a file below the kubelet's folder of profiles/,
    ],
    [
      'ztunnel',
      { seccompProfile: { type: 'RuntimeDefault', localhostProfile: 'b.json' } },
      /localhostProfile is of type Localhost only/,
    ],
    ['cni-redirect', { excludeNamespaces: ['a'.repeat(64)] }, /excludeNamespaces.*maxLength/],
    ['cni-redirect', { cniBinDir: '/' }, /cniBinDir.*pattern/],
    ['cni-redirect', { cniBinDir: 'opt/cni/bin' }, /cniBinDir.*pattern/],
    [
      'cni-redirect',
      { cniConfDir: '/opt/cni/bin/' },
      /cniConfDir: \/opt\/cni\/bin\/ of the node is the folder of cniBinDir, too; set it to one of its own/,
    ],
    ['cni-redirect', { cniNetnsDir: '/run/ztunnel' }, /is the folder of ztunnel's socket, too/],
    ['ztunnel', { stateDir: '/run/netns' }, /stateDir: \/run\/netns .* is the folder of cniNetnsDir, too/],
    ['ztunnel', { stateDir: '/' }, /stateDir.*pattern/],
    [
      'cni-redirect',
      { 'taint.enabled': true, tolerations: [] },
      /taint\.enabled: tolerations keep the agent off .* add key cni\.istio\.io\/not-ready/,
    ],
    [
      'gateway',
      { 'infrastructure.labels': { 'istio.io/dataplane-mode': 'ambient' } },
      /infrastructure\.labels: istio\.io\/dataplane-mode is what the controller labels each proxy with/,
    ],
    ['ambit', { 'global.imagePullSecrets': ['a,b'] }, /imagePullSecrets.*pattern/],
    ['base', { excludedCRDs: ['virtualservice'] }, /virtualservice is no definition of this chart/],
    ['ztunnel', { stateDir: '/var/lib/../x' }, /stateDir.*pattern/],
    ['ztunnel', { 'updateStrategy.rollingUpdate': { maxSurge: '0%' } }, /are both 0/],
    ['ztunnel', { 'resourceQuotas.pods': 1e9 }, /resourceQuotas\/pods.*maximum/],
    ['cni-redirect', { cniBinDir: '/a, type: Socket' }, /cniBinDir.*pattern/],
    ['cni-redirect', { 'updateStrategy.rollingUpdate.maxSurge': 0 }, /are both 0/],
    [
      'ztunnel',
      { podMonitor: { enabled: true, labels: { app: 'mine' } } },
      /podMonitor\.labels: app is a label of the chart's own/,
    ],
    ['ambit', { 'global.multiCluster.clusterName': '-a' }, /clusterName.*pattern/],
    ['gateway', { revision: 'a'.repeat(64) }, /revision.*maxLength/],
    ['gateway', { 'infrastructure.labels': { 'a b': 'c' } }, /invalid propertyName 'a b'/],
  ])('%s %j', (chart, values, sentence) => {
    expect(() => renderText(chart, { values })).toThrow(sentence);
  });

  test.each(charts.filter((chart) => chart !== 'ambit'))(
    '%s: values that are taken away are asked for, or can be missing',
    (chart) => {
      const file = join(root, 'charts', chart, 'values.schema.json');
      const schema = JSON.parse(readFileSync(file, 'utf8')) as {
        properties: object;
        required: readonly string[];
      };
      const without = (names: readonly string[]) =>
        Object.fromEntries(names.map((name) => [name, null]));
      const { required } = schema;
      const quoted = required.map((name) => `'${name}'`).join(', ');
      const one = required.length === 1;
      expect(() => renderText(chart, { values: without(required) })).toThrow(
        `missing ${one ? 'property' : 'properties'} ${quoted}`,
      );
      const others = Object.keys(schema.properties).filter((name) => !required.includes(name));
      expect(() => renderText(chart, { values: without(others) })).not.toThrow();
    },
  );

  test('but one that scales on a limit of CPU alone, which Kubernetes asks for, is taken', () => {
    const limits = { cpu: 1, memory: '1Gi' };
    const values = { autoscaleEnabled: true, 'resources.requests.cpu': null, 'resources.limits': limits };
    expect(() => renderText('controller', { values })).not.toThrow();
  });

  test('but a grace that no uninstall has to wait for is taken', () => {
    const values = { releaseGrace: '111s', terminationGracePeriodSeconds: 600 };
    const never = { ...values, 'uninstall.enabled': false };
    expect(() => renderText('cni-redirect', { values: never })).not.toThrow();
    const longer = { ...values, 'uninstall.timeout': '121s' };
    expect(() => renderText('cni-redirect', { values: longer })).not.toThrow();
  });

  test('the name of a release that a Service cannot have', () => {
    expect(() => renderText('gateway', { release: '1a' })).toThrow(/name: "1a".* set one of/);
    expect(() => renderText('gateway', { release: '1a', values: { name: 'a' } })).not.toThrow();
  });
});

describe('the proxy is on every node on which the agent is', () => {
  const required = (...nodeSelectorTerms: readonly object[]): object => ({
    nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } },
  });
  const where = (key: string, operator: string, ...values: readonly string[]): object => ({
    matchExpressions: [{ key, operator, ...(values.length === 0 ? {} : { values }) }],
  });
  const both = (what: string, proxy: unknown, agent: unknown): Values => ({
    [`ztunnel.${what}`]: proxy,
    [`cni-redirect.${what}`]: agent,
  });
  const anything = [{ operator: 'Exists' }];
  const one = { key: 'a', value: 'b' };
  const drained = { key: 'node.kubernetes.io/unschedulable', operator: 'Exists' };
  const os = 'kubernetes.io/os';
  const linux = where(os, 'In', 'linux');
  const edge = where('role', 'In', 'edge');

  test.each<readonly [string, Values]>([
    ['the proxy minds less', both('tolerations', anything, [one])],
    ['any value of a taint', both('tolerations', [{ key: 'a', operator: 'Exists' }], [one])],
    [
      'each effect by itself',
      both('tolerations', [{ ...one, effect: 'NoSchedule' }, { ...one, effect: 'NoExecute' }], [one]),
    ],
    ['what each DaemonSet does not mind', both('tolerations', [], [drained])],
    ['a taint that keeps no pod away', both('tolerations', [], [{ ...one, effect: 'PreferNoSchedule' }])],
    ['no affinity of the proxy', both('affinity', {}, required(edge))],
    ['the same affinity', both('affinity', required(edge), required(edge))],
    ['one of several', both('affinity', required(linux, edge), required(edge))],
    ['a wider one', both('affinity', required(where('role', 'Exists')), required(edge))],
    ['what nodeSelector says', { 'ztunnel.affinity': required(linux) }],
    ['what nodeSelector excludes', { 'ztunnel.affinity': required(where(os, 'NotIn', 'windows')) }],
    [
      'another order',
      both('affinity', required(where('t', 'NotIn', 'a', 'b')), required(where('t', 'NotIn', 'b', 'a'))),
    ],
    ...[
      where('t', 'NotIn', 'fargate', 'auto'),
      where('t', 'In', 'ec2'),
      where('t', 'DoesNotExist'),
    ].map((agents): [string, Values] => [
      JSON.stringify(agents),
      both('affinity', required(where('t', 'NotIn', 'fargate')), required(agents)),
    ]),
    ['a lower bound', both('affinity', required(where('n', 'Gt', '3')), required(where('n', 'Gt', '5')))],
    ['an upper bound', both('affinity', required(where('n', 'Lt', '5')), required(where('n', 'In', '4')))],
    [
      'a nodeSelector that the affinity of the agent says',
      { 'ztunnel.nodeSelector': { role: 'edge' }, 'cni-redirect.affinity': required(edge) },
    ],
    [
      'what terms say together',
      { 'ztunnel.affinity': required(edge, where('role', 'NotIn', 'edge')) },
    ],
  ])('%s', (_what, values) => {
    expect(() => renderText('ambit', { values })).not.toThrow();
  });

  const tolerations = /cni-redirect\.tolerations\[0\] .* ztunnel\.tolerations does not mind: .* Set both/;
  const affinity = /ztunnel\.affinity\.nodeAffinity asks for nodes with more than .* Set both/;
  test.each<readonly [string, Values, RegExp]>([
    ['a proxy that minds every taint', { 'ztunnel.tolerations': [] }, tolerations],
    ['another value', both('tolerations', [{ ...one, value: 'c' }], [one]), tolerations],
    ['one effect of two', both('tolerations', [{ ...one, effect: 'NoSchedule' }], [one]), tolerations],
    [
      'a proxy that goes after a while',
      both(
        'tolerations',
        [{ ...one, effect: 'NoExecute', tolerationSeconds: 9 }],
        [{ ...one, effect: 'NoExecute' }],
      ),
      tolerations,
    ],
    ['an affinity of the proxy alone', { 'ztunnel.affinity': required(edge) }, affinity],
    ['one of two terms', both('affinity', required(edge), required(linux, edge)), affinity],
    ['nodes that the agent has', { 'ztunnel.affinity': required(where('t', 'NotIn', 'a')) }, affinity],
    [
      'fewer nodes that the agent has',
      both('affinity', required(where('t', 'NotIn', 'a')), required(where('t', 'NotIn', 'b'))),
      affinity,
    ],
    [
      'a bound that is higher',
      both('affinity', required(where('n', 'Gt', '5')), required(where('n', 'Gt', '3'))),
      affinity,
    ],
    [
      'a nodeSelector of the proxy alone',
      { 'ztunnel.nodeSelector': { role: 'edge' } },
      /ztunnel\.nodeSelector asks for role=edge and cni-redirect\.nodeSelector does not/,
    ],
    [
      'fewer values',
      both('affinity', required(edge), required(where('role', 'In', 'edge', 'core'))),
      affinity,
    ],
  ])('but not %s', (_what, values, sentence) => {
    expect(() => renderText('ambit', { values })).toThrow(sentence);
  });
});

test('proxies trust the controller by any name in its certificate', () => {
  const service = 'ambit-controller.istio-system.svc';
  const named = { 'controller.servingNames': ['*.Mesh.example', '10.0.0.1', 'fd00:0::1'] };
  for (const host of [service, `${service}.cluster.local`, 'a.mesh.example', '10.0.0.1', '[fd00::1]'])
    expect(() =>
      renderText('ambit', { values: { ...named, 'ztunnel.xdsAddress': `${host}:15012` } }),
    ).not.toThrow();
});

test('controllers run where a node waits to become ready, for its proxy waits for them', () => {
  const { spec } = find(
    render('controller', { values: { tolerations: [{ key: 'a', operator: 'Exists' }] } }),
    'Deployment',
    'ambit-controller',
  ) as unknown as { spec: { template: { spec: { tolerations: object[] } } } };
  expect(spec.template.spec.tolerations).toEqual([
    { key: 'cni.istio.io/not-ready', operator: 'Exists', effect: 'NoSchedule' },
    { key: 'a', operator: 'Exists' },
  ]);
});

test('a spread constraint that selects nobody is of the controllers', () => {
  const constraint = { maxSkew: 1, topologyKey: 'zone', whenUnsatisfiable: 'ScheduleAnyway' };
  const labelSelector = { matchExpressions: [{ key: 'app', operator: 'Exists' }] };
  const values = { topologySpreadConstraints: [constraint, { ...constraint, labelSelector }] };
  const { spec } = find(
    render('controller', { values }),
    'Deployment',
    'ambit-controller',
  ) as unknown as { spec: { template: { spec: { topologySpreadConstraints: object[] } } } };
  expect(spec.template.spec.topologySpreadConstraints).toEqual([
    { ...constraint, labelSelector: { matchLabels: { app: 'ambit-controller' } } },
    { ...constraint, labelSelector },
  ]);
});

test('annotations of pods that the chart has, too, are those of whoever installs', () => {
  for (const { chart, kind, name } of [controller, ztunnel, agent]) {
    const values = { podAnnotations: { 'prometheus.io/scrape': 'false', note: 'a' } };
    const { spec } = find(render(chart, { values }), kind, name) as unknown as {
      spec: { template: { metadata: { annotations: object } } };
    };
    expect(spec.template.metadata.annotations).toEqual({
      'prometheus.io/scrape': 'false',
      'prometheus.io/port': expect.stringMatching(/^150\d\d$/),
      note: 'a',
    });
  }
});

test('more new pods than there are may come at once, and none is written in two ways', () => {
  const surging = render('controller', { values: { rollingMaxSurge: '150%' } });
  expect(find(surging, 'Deployment', 'ambit-controller')['spec']).toMatchObject({
    strategy: { rollingUpdate: { maxSurge: '150%' } },
  });
  expect(renders('controller', { rollingMaxUnavailable: '101%' })).toBe(false);
  for (const chart of ['ztunnel', 'cni-redirect'] as const)
    for (const rollingUpdate of [
      { maxSurge: '0%', maxUnavailable: 1 },
      { maxSurge: 1, maxUnavailable: '0%' },
    ])
      expect(renders(chart, { 'updateStrategy.rollingUpdate': rollingUpdate })).toBe(true);
});

test.each([controller, ztunnel, agent])('of $name an amount that is null is none', ({ chart, kind, name }) => {
  const resources = { limits: { cpu: null, memory: '1Gi' }, requests: { cpu: '20m', memory: null } };
  const values = { 'resources': resources, 'global.waypoint.resources': resources };
  const { spec } = find(render(chart, { values }), kind, name) as unknown as {
    spec: { template: { spec: { containers: { resources: object }[] } } };
  };
  const given = { limits: { memory: '1Gi' }, requests: { cpu: '20m' } };
  expect(spec.template.spec.containers[0]?.resources).toEqual(given);
  if (chart !== 'controller') return;
  expect(JSON.parse(envOf(controller, values).get('WAYPOINT_RESOURCES')!)).toEqual(given);
});

describe('a budget holds up no drain', () => {
  const budgetOf = (chart: Chart, values: Values): unknown =>
    render(chart, { values }).find(({ kind }) => kind === 'PodDisruptionBudget')?.['spec'];

  test('of one controller there is none', () => {
    expect(budgetOf('controller', {})).toMatchObject({ minAvailable: 1 });
    expect(budgetOf('controller', { replicaCount: 1 })).toBeUndefined();
    expect(budgetOf('controller', { autoscaleEnabled: true, autoscaleMin: 1 })).toBeUndefined();
  });

  test('of a gateway it keeps as many as are said where their number is known, and lets one go elsewhere', () => {
    const enabled = { 'podDisruptionBudget.enabled': true };
    expect(budgetOf('gateway', {})).toBeUndefined();
    const one = budgetOf('gateway', enabled);
    expect(one).toMatchObject({ maxUnavailable: 1 });
    expect(one).not.toHaveProperty('minAvailable');
    const scaled = {
      ...enabled,
      autoscaling: { enabled: true, minReplicas: 3, maxReplicas: 5 },
      'podDisruptionBudget.minAvailable': 2,
    };
    expect(budgetOf('gateway', scaled)).toMatchObject({ minAvailable: 2 });
    for (const minAvailable of [2, '50%']) {
      const unknown = { ...enabled, 'podDisruptionBudget.minAvailable': minAvailable };
      expect(() => budgetOf('gateway', unknown)).toThrow(/take it out .*or set autoscaling\.enabled/);
    }
  });

  test('that is a percentage is counted as Kubernetes does', () => {
    const of = (chart: Chart, share: string) => () =>
      budgetOf(chart, {
        'podDisruptionBudget.enabled': true,
        'podDisruptionBudget.minAvailable': share,
        ...(chart === 'gateway'
          ? { autoscaling: { enabled: true, minReplicas: 2 } }
          : { replicaCount: 2 }),
      });
    for (const chart of ['controller', 'gateway'] as const) {
      expect(of(chart, '50%')()).toMatchObject({ minAvailable: '50%' });
      expect(of(chart, '51%')).toThrow(/minAvailable 51% of .* lets no node be drained/);
      expect(of(chart, '100%')).toThrow(/minAvailable/);
    }
  });
});

import type {
  CustomTag,
  ExtensionProvider,
  MeshSettings,
  MetricName,
  PolicyTarget,
  Telemetry,
} from '@ambit/api';

type Provider<K extends ExtensionProvider['kind']> = Extract<ExtensionProvider, { kind: K }>;
export type TracingProvider = Provider<'opentelemetry' | 'zipkin'>;

/** What is told of the traffic to one set of targets, and where. */
export interface ResolvedTelemetry {
  readonly metrics:
    | 'off'
    | readonly {
        readonly metric: MetricName;
        readonly disabled: boolean;
        readonly tags: readonly (readonly [name: string, value: string | undefined])[];
      }[];
  readonly logs: readonly {
    readonly provider: Provider<'access-log'>;
    readonly filter: string | undefined;
  }[];
  readonly tracing: {
    readonly provider: TracingProvider | undefined;
    readonly samplingPercent: number;
    readonly customTags: readonly CustomTag[];
    readonly istioTags: boolean;
  };
}

type MeshProviders = Pick<
  MeshSettings,
  'providers' | 'defaultProviders' | 'traceSamplingPercent' | 'rootNamespace'
>;

/** Those that every mesh of Istio's has. */
const builtIn: readonly ExtensionProvider[] = [
  { kind: 'prometheus', name: 'prometheus' },
  { kind: 'access-log', name: 'envoy', path: '/dev/stdout', format: { kind: 'default-text' } },
];

/** Telemetry for a waypoint of `namespace`, least specific first: the root's, the namespace's, what names a target. */
export function layersFor(
  all: Iterable<Telemetry>,
  place: {
    readonly namespace: string;
    readonly rootNamespace: string;
    readonly targets: readonly PolicyTarget[];
  },
): readonly Telemetry[] {
  const ordered = [...all].sort(
    (left, right) =>
      left.createdAtMs - right.createdAtMs ||
      (`${left.namespace}/${left.name}` < `${right.namespace}/${right.name}` ? -1 : 1),
  );
  // Of several for a whole namespace only the oldest holds, as in Istio.
  const wide = (namespace: string): readonly Telemetry[] =>
    ordered
      .filter((one) => one.scope.kind === 'namespace' && one.namespace === namespace)
      .slice(0, 1);
  const { namespace, rootNamespace } = place;
  const targeted = place.targets.flatMap((target) =>
    ordered.filter(
      ({ scope }) =>
        scope.kind === 'targeted' && scope.targets.some((one) => sameTarget(one, target)),
    ),
  );
  return [
    ...wide(rootNamespace),
    ...(namespace === rootNamespace ? [] : wide(namespace)),
    ...new Set(targeted),
  ];
}

function sameTarget(left: PolicyTarget, right: PolicyTarget): boolean {
  if (left.kind === 'service') return right.kind === 'service' && left.service === right.service;
  if (right.kind === 'service') return false;
  const inSame = 'namespace' in left && 'namespace' in right && left.namespace === right.namespace;
  return (
    left.kind === right.kind &&
    left.name === right.name &&
    (left.kind === 'gateway-class' || inSame)
  );
}

/** Later layers win over earlier ones, rule by rule, as Istio merges them. */
export function resolveTelemetry(
  layers: readonly Telemetry[],
  mesh: MeshProviders,
): ResolvedTelemetry {
  const providers = new Map([...builtIn, ...mesh.providers].map((one) => [one.name, one]));
  return {
    metrics: resolveMetrics(layers, mesh, providers),
    logs: resolveLogs(layers, mesh, providers),
    tracing: resolveTracing(layers, mesh, providers),
  };
}

type Providers = ReadonlyMap<string, ExtensionProvider>;

/** Names that are providers of these kinds; where a rule names only others, it is as if it named none. */
function known(
  names: readonly string[],
  providers: Providers,
  ...kinds: readonly ExtensionProvider['kind'][]
): readonly string[] {
  return names.filter((name) => kinds.some((kind) => providers.get(name)?.kind === kind));
}

function resolveMetrics(
  layers: readonly Telemetry[],
  mesh: MeshProviders,
  providers: Providers,
): ResolvedTelemetry['metrics'] {
  const defaults = mesh.defaultProviders.metrics;
  const first = known(defaults, providers, 'prometheus');
  const rules = layers.flatMap(({ metrics }) => metrics);
  let current = first;
  const named = rules.map((rule) => {
    const names = known(rule.providers, providers, 'prometheus');
    if (names.length > 0) current = names;
    return { rule, names: current };
  });
  if (current.length === 0) return 'off';
  const merged = new Map<
    MetricName,
    { disabled: boolean; tags: Map<string, string | undefined> }
  >();
  for (const { rule, names } of named) {
    if (!names.some((name) => current.includes(name))) continue;
    for (const override of rule.overrides) {
      for (const metric of override.metrics) {
        const before = merged.get(metric) ?? { disabled: false, tags: new Map() };
        if (override.disabled !== undefined) before.disabled = override.disabled;
        for (const { name, value } of override.tags) before.tags.set(name, value);
        merged.set(metric, before);
      }
    }
  }
  return [...merged].map(([metric, { disabled, tags }]) => ({ metric, disabled, tags: [...tags] }));
}

function resolveLogs(
  layers: readonly Telemetry[],
  mesh: MeshProviders,
  providers: Providers,
): ResolvedTelemetry['logs'] {
  const defaults = mesh.defaultProviders.accessLogging;
  const first = known(defaults, providers, 'access-log');
  const logs = new Map<string, string | undefined>(first.map((name) => [name, undefined]));
  let current = first;
  for (const { accessLogs } of layers) {
    // What a layer names takes the place of what the one before it named.
    const own = accessLogs.flatMap((rule) => known(rule.providers, providers, 'access-log'));
    if (own.length > 0) for (const name of logs.keys()) if (!own.includes(name)) logs.delete(name);
    for (const rule of accessLogs) {
      const names = known(rule.providers, providers, 'access-log');
      if (names.length > 0) current = names;
      for (const name of current) {
        if (rule.disabled) logs.delete(name);
        else logs.set(name, rule.filter);
      }
    }
  }
  return [...logs].flatMap(([name, filter]) => {
    const provider = providers.get(name);
    return provider?.kind === 'access-log' ? [{ provider, filter }] : [];
  });
}

function resolveTracing(
  layers: readonly Telemetry[],
  mesh: MeshProviders,
  providers: Providers,
): ResolvedTelemetry['tracing'] {
  let [name] = known(mesh.defaultProviders.tracing, providers, 'opentelemetry', 'zipkin');
  let samplingPercent = mesh.traceSamplingPercent;
  let disabled = false;
  let customTags: readonly CustomTag[] = [];
  let istioTags = true;
  for (const rule of layers.flatMap(({ tracing }) => tracing)) {
    if (rule.providers.length > 0) {
      [name] = known(rule.providers, providers, 'opentelemetry', 'zipkin');
    }
    samplingPercent = rule.samplingPercent ?? samplingPercent;
    disabled = rule.disabled ?? disabled;
    customTags = rule.customTags ?? customTags;
    istioTags = rule.istioTags ?? istioTags;
  }
  const provider = name === undefined || disabled ? undefined : providers.get(name);
  const canReport =
    provider?.kind === 'zipkin' ||
    (provider?.kind === 'opentelemetry' && provider.http !== undefined);
  return {
    provider: canReport ? provider : undefined,
    samplingPercent,
    customTags,
    istioTags,
  };
}

import type {
  AccessLogRule,
  CustomTag,
  ExtensionProvider,
  MetricName,
  MetricsOverride,
  MetricsRule,
  TagOverride,
  Telemetry,
  TracingRule,
} from '@ambit/api';
import { metricNames } from '@ambit/api';
import { compileFilter, compileFormat, compileTag } from '@ambit/core';
import type { Aged } from './age.ts';
import { isOlder } from './age.ts';
import { formatProblem } from './provider.ts';

import type { TelemetryRecord } from '../kube/decode/configuration.ts';
import type { Metadata, Problem, Report } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import type {
  AccessLogRuleSpec,
  CustomTagSpec,
  MetricsRuleSpec,
  TracingRuleSpec,
} from '../resources/telemetry.ts';
import { compileTargets } from './targets.ts';
import type { ClusterFacts } from './workload.ts';

export interface CompiledTelemetry {
  /** Undefined for one that no waypoint heeds. */
  readonly telemetry: Telemetry | undefined;
  readonly problems: readonly Problem[];
}

export interface TelemetryWorld extends Pick<ClusterFacts, 'rootNamespace' | 'clusterDomain'> {
  readonly provider: (name: string) => ExtensionProvider | undefined;
  /** Of those of this namespace that are for all of it the oldest, which alone holds; it need not be stored yet. */
  readonly firstOfNamespace: Age | undefined;
}

type Age = Pick<Metadata, 'name' | 'createdAtMs'>;

interface Compiling {
  readonly report: Report;
  readonly world: TelemetryWorld;
}

/** Telemetry as Istio defines it. Of what is not understood the rest holds, and nothing is told less for it. */
export function compileTelemetry(
  record: TelemetryRecord,
  world: TelemetryWorld,
): CompiledTelemetry {
  const { meta } = record;
  const problems: Problem[] = [...record.problems];
  const object = `Telemetry ${objectKey(meta)}`;
  const report: Report = (field, message, admissible) =>
    void problems.push({ object, field, message, ...(admissible && { admissible }) });
  if (!record.spec.ok) return { telemetry: undefined, problems };
  const spec = record.spec.value;
  if (Object.keys(spec.selector?.matchLabels ?? {}).length > 0) {
    return { telemetry: undefined, problems };
  }
  const targeted = spec.targetRef !== undefined || (spec.targetRefs ?? []).length > 0;
  const older = targeted ? undefined : olderThan(meta, world.firstOfNamespace);
  const compiling: Compiling = { report, world };
  const targets = compileTargets(spec, meta.namespace, world, report);
  const telemetry: Telemetry = {
    name: meta.name,
    namespace: meta.namespace,
    createdAtMs: meta.createdAtMs,
    scope: targeted ? { kind: 'targeted', targets } : { kind: 'namespace' },
    metrics: (spec.metrics ?? []).map((rule, index) =>
      metricsRule(rule, `spec.metrics[${index}]`, compiling),
    ),
    accessLogs: (spec.accessLogging ?? []).flatMap((rule, index) =>
      rule.match?.mode === 'CLIENT'
        ? []
        : [accessLogRule(rule, `spec.accessLogging[${index}]`, compiling)],
    ),
    tracing: (spec.tracing ?? []).flatMap((rule, index) =>
      rule.match?.mode === 'CLIENT' ? [] : [tracingRule(rule, `spec.tracing[${index}]`, compiling)],
    ),
  };
  if (older !== undefined) {
    const why = `${older.name} is older and alone holds for the whole namespace; merge them`;
    report('spec', why, true);
    return { telemetry: undefined, problems };
  }
  if (problems.length === 0) tellIdle(telemetry, report);
  return { telemetry, problems };
}

function olderThan(own: Age, first: Age | undefined): Age | undefined {
  return first?.name === own.name || (first && isOlder(aged(own), aged(first))) ? undefined : first;
}

/** Both are of one namespace. */
function aged({ name, createdAtMs }: Age): Aged {
  return { key: name, createdAtMs };
}

/** A waypoint counts as the server. */
function tellIdle({ metrics, accessLogs, tracing }: Telemetry, report: Report): void {
  const isEmpty = metrics.every((rule) => rule.providers.length + rule.overrides.length === 0);
  if (!isEmpty || accessLogs.length + tracing.length > 0) return;
  const why =
    'has no metrics, tracing or accessLogging for a waypoint, which counts as SERVER: nothing is changed; add one';
  report('spec', why, true);
}

/** True for one that is meant for all of its namespace. */
export function isForNamespace({ spec }: TelemetryRecord): boolean {
  if (!spec.ok) return false;
  const { selector, targetRef, targetRefs = [] } = spec.value;
  const selects = Object.keys(selector?.matchLabels ?? {}).length > 0;
  return !selects && targetRef === undefined && targetRefs.length === 0;
}

function providersOf(
  refs: readonly { readonly name: string }[] | undefined,
  path: string,
  { report, world }: Compiling,
  problemOf: (provider: ExtensionProvider) => string | undefined,
): readonly string[] {
  return (refs ?? []).flatMap(({ name }, index) => {
    const provider = world.provider(name);
    const problem =
      provider === undefined
        ? `no provider is called ${JSON.stringify(name)}; add it to extensionProviders of the mesh`
        : problemOf(provider);
    if (problem === undefined) return [name];
    report(`${path}.providers[${index}]`, problem, true);
    return [];
  });
}

function metricsRule(rule: MetricsRuleSpec, path: string, compiling: Compiling): MetricsRule {
  return {
    providers: providersOf(rule.providers, path, compiling, ({ kind }) =>
      kind === 'prometheus' ? undefined : `takes no metrics: it is of kind ${kind}`,
    ),
    overrides: (rule.overrides ?? []).flatMap((override, index): MetricsOverride[] => {
      const { match = {}, disabled, tagOverrides = {} } = override;
      if (match.mode === 'CLIENT' || match.customMetric !== undefined) return [];
      const metrics: readonly MetricName[] =
        match.metric === undefined || match.metric === 'ALL_METRICS' ? metricNames : [match.metric];
      const tags = Object.entries(tagOverrides).flatMap(([name, tag]) =>
        tagOverride(name, tag, `${path}.overrides[${index}].tagOverrides.${name}`, compiling),
      );
      return [{ metrics, ...(disabled === undefined ? {} : { disabled }), tags }];
    }),
  };
}

const labelName = /^[a-zA-Z_][a-zA-Z0-9_]{0,127}$/;

function tagOverride(
  name: string,
  { operation = 'UPSERT', value }: { readonly operation?: string; readonly value?: string },
  path: string,
  { report }: Compiling,
): readonly TagOverride[] {
  if (!labelName.test(name) || name === 'le' || name.startsWith('__')) {
    report(path, 'is no name that a label of a metric may have');
    return [];
  }
  if (operation === 'REMOVE') return [{ name }];
  if (value === undefined || value === '') {
    report(`${path}.value`, 'must not be empty: an expression such as request.host');
    return [];
  }
  const compiled = compileTag(value);
  if (compiled.ok) return [{ name, value }];
  report(`${path}.value`, compiled.error);
  return [];
}

function accessLogRule(rule: AccessLogRuleSpec, path: string, compiling: Compiling): AccessLogRule {
  const filter = rule.filter?.expression ?? '';
  const compiled = filter === '' ? undefined : compileFilter(filter);
  if (compiled?.ok === false) {
    compiling.report(`${path}.filter.expression`, `${compiled.error}; everything is logged`);
  }
  return {
    providers: providersOf(rule.providers, path, compiling, logProblem),
    disabled: rule.disabled ?? false,
    ...(compiled?.ok === true ? { filter } : {}),
  };
}

function logProblem(provider: ExtensionProvider): string | undefined {
  if (provider.kind !== 'access-log') return `takes no access log: it is of kind ${provider.kind}`;
  const { format, path } = provider;
  if (path !== '/dev/stdout') return `writes to ${path}; a waypoint writes to /dev/stdout only`;
  const problem = formatProblem(format);
  return problem === undefined ? undefined : `its format ${problem}`;
}

function tracingRule(rule: TracingRuleSpec, path: string, compiling: Compiling): TracingRule {
  const { report } = compiling;
  const percent = rule.randomSamplingPercentage;
  const inRange = percent === undefined || (percent >= 0 && percent <= 100);
  if (!inRange) report(`${path}.randomSamplingPercentage`, 'must be from 0 to 100');
  if ((rule.providers ?? []).length > 1) {
    report(`${path}.providers`, 'only the first is used: spans go to one collector');
  }
  const customTags = Object.entries(rule.customTags ?? {}).flatMap(([name, tag]) =>
    customTag(name, tag, `${path}.customTags.${name}`, report),
  );
  return {
    providers: providersOf(rule.providers, path, compiling, tracingProblem),
    ...(percent === undefined || !inRange ? {} : { samplingPercent: percent }),
    ...(rule.disableSpanReporting === undefined ? {} : { disabled: rule.disableSpanReporting }),
    ...(rule.customTags === undefined ? {} : { customTags }),
    ...(rule.enableIstioTags === undefined ? {} : { istioTags: rule.enableIstioTags }),
  };
}

function tracingProblem(provider: ExtensionProvider): string | undefined {
  if (provider.kind === 'zipkin') return undefined;
  if (provider.kind !== 'opentelemetry') return `takes no spans: it is of kind ${provider.kind}`;
  return provider.http === undefined
    ? 'speaks OTLP over gRPC, which is not there; set opentelemetry.http'
    : undefined;
}

function customTag(
  name: string,
  { literal, header, environment, formatter }: CustomTagSpec,
  path: string,
  report: Report,
): readonly CustomTag[] {
  if (literal !== undefined) return [{ kind: 'literal', name, value: literal.value ?? '' }];
  if (header !== undefined || environment !== undefined) {
    const kind = header === undefined ? 'environment' : 'header';
    const { name: from = '', defaultValue: fallback = '' } = header ?? environment ?? {};
    if (from !== '') {
      return [{ kind, name, from: kind === 'header' ? from.toLowerCase() : from, fallback }];
    }
    report(`${path}.${kind}.name`, 'must not be empty');
    return [];
  }
  return formatTag(name, formatter?.value ?? '', path, report);
}

function formatTag(
  name: string,
  format: string,
  path: string,
  report: Report,
): readonly CustomTag[] {
  const compiled = format === '' ? undefined : compileFormat(format);
  if (compiled?.ok === true) return [{ kind: 'format', name, format }];
  report(path, compiled?.error ?? 'needs one of literal, header, environment and formatter');
  return [];
}

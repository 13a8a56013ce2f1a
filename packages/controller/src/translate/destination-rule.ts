import type {
  Cluster,
  PoolLimits,
  ServiceKey,
  Subset,
  TrafficPolicy,
  TrafficSettings,
  UpstreamTls,
} from '@ambit/api';
import { defaultPool, defaultTraffic, parsePort, serviceKey } from '@ambit/api';

import type { DestinationRuleRecord } from '../kube/decode/configuration.ts';
import type { Problem } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import type { SettingsSpec, TrafficPolicySpec } from '../resources/destination-rule.ts';
import { durationMs } from './duration.ts';
import type { HostResolver } from './istio-host.ts';
import { hostnameOf, serviceOfHost } from './istio-host.ts';
import { compileLoadBalancer } from './load-balancer.ts';
import { compileOutlierDetection } from './outlier-detection.ts';

export interface CompiledDestinationRule {
  readonly key: string;
  readonly namespace: string;
  readonly createdAtMs: number;
  /** Undefined for a host that is no Service of this cluster, or a spec that cannot be read. */
  readonly service: ServiceKey | undefined;
  readonly policy: TrafficPolicy;
  readonly subsets: readonly Subset[];
  readonly problems: readonly Problem[];
}

/** DestinationRule as Istio defines it. */
export function compileDestinationRule(
  record: DestinationRuleRecord,
  clusterDomain: string,
  resolve: HostResolver = (host, namespace) => serviceOfHost(host, namespace, clusterDomain),
): CompiledDestinationRule {
  const { meta } = record;
  const problems: Problem[] = [...record.problems];
  const object = `DestinationRule ${objectKey(meta)}`;
  const report: Report = (field, message) => void problems.push({ object, field, message });
  const common = {
    key: objectKey(meta),
    namespace: meta.namespace,
    createdAtMs: meta.createdAtMs,
    problems,
  };
  if (!record.spec.ok)
    return { ...common, service: undefined, policy: defaultTraffic, subsets: [] };
  const { host = '', trafficPolicy, subsets = [] } = record.spec.value;
  const service = resolve(host, meta.namespace);
  if (service === undefined)
    report(
      'spec.host',
      `${JSON.stringify(host)} is no Service of this cluster and no host of a ServiceEntry`,
    );
  const policy = compilePolicy(trafficPolicy, defaultTraffic, 'spec.trafficPolicy', report);
  return {
    ...common,
    service: service && serviceKey(service.namespace, hostnameOf(service, clusterDomain)),
    policy,
    subsets: subsets.map((subset, index): Subset => {
      const path = `spec.subsets[${index}]`;
      if (subset.name === undefined || subset.name === '')
        report(`${path}.name`, 'must not be empty');
      return {
        name: subset.name ?? '',
        labels: Object.entries(subset.labels ?? {}),
        // A subset takes from the rule what it does not say itself.
        policy: compilePolicy(subset.trafficPolicy, policy, `${path}.trafficPolicy`, report),
      };
    }),
    problems,
  };
}

/** The rules of one service as one: the first that speaks of the whole wins, every subset is kept. */
export function mergeDestinationRules(
  service: ServiceKey,
  rules: readonly CompiledDestinationRule[],
): Cluster | undefined {
  const ordered = [...rules].sort(
    (left, right) => left.createdAtMs - right.createdAtMs || (left.key < right.key ? -1 : 1),
  );
  const [first] = ordered;
  if (first === undefined) return undefined;
  const subsets = new Map<string, Subset>();
  for (const subset of ordered.flatMap((rule) => rule.subsets)) {
    if (!subsets.has(subset.name)) subsets.set(subset.name, subset);
  }
  const speaking = ordered.find(({ policy }) => policy !== defaultTraffic) ?? first;
  return { service, policy: speaking.policy, subsets: [...subsets.values()] };
}

type Report = (field: string, message: string) => void;

const defaultSettings: TrafficSettings = {
  balancing: defaultTraffic.balancing,
  locality: defaultTraffic.locality,
  pool: defaultTraffic.pool,
};

function compilePolicy(
  spec: TrafficPolicySpec | undefined,
  inherited: TrafficPolicy,
  path: string,
  report: Report,
): TrafficPolicy {
  if (spec === undefined) return inherited;
  const { ports: inheritedPorts, ...base } = inherited;
  const own = compileSettings(spec, base, path, report);
  const { retryBudget } = spec;
  const whole: TrafficSettings = {
    ...own,
    ...(retryBudget === undefined
      ? {}
      : {
          retryBudget: {
            percent: retryBudget.percent ?? 20,
            minRetryConcurrency: retryBudget.minRetryConcurrency ?? 3,
          },
        }),
  };
  const ports = (spec.portLevelSettings ?? []).flatMap((one, index) => {
    const at = `${path}.portLevelSettings[${index}]`;
    const port = parsePort(one.port?.number ?? 0);
    if (!port.ok) {
      report(`${at}.port.number`, port.error.message);
      return [];
    }
    // As in Istio: what a port says stands for itself, nothing of the whole is taken over.
    return [{ port: port.value, settings: compileSettings(one, defaultSettings, at, report) }];
  });
  return {
    ...whole,
    ports: spec.portLevelSettings === undefined ? inheritedPorts : ports,
  };
}

function compileSettings(
  spec: SettingsSpec,
  base: TrafficSettings,
  path: string,
  report: Report,
): TrafficSettings {
  const outlier =
    spec.outlierDetection && compileOutlierDetection(spec.outlierDetection, path, report);
  const tls = spec.tls && compileTls(spec.tls, path, report);
  const { warmup, ...inherited } = base;
  const balancer = spec.loadBalancer && compileLoadBalancer(spec.loadBalancer, path, report);
  return {
    ...inherited,
    ...(balancer ?? (warmup === undefined ? {} : { warmup })),
    pool:
      spec.connectionPool === undefined
        ? base.pool
        : compilePool(spec.connectionPool, path, report),
    ...(outlier === undefined ? {} : { outlier }),
    ...(tls === undefined ? {} : { tls }),
  };
}

function compilePool(
  spec: NonNullable<SettingsSpec['connectionPool']>,
  path: string,
  report: Report,
): PoolLimits {
  const { tcp, http } = spec;
  const ms = (text: string | undefined, field: string): number | undefined =>
    lengthOf(text, `${path}.connectionPool.${field}`, report);
  const bounded = (value: number | undefined): number | undefined =>
    value === undefined || value <= 0 ? undefined : value;
  const limits = {
    maxConnections: bounded(tcp?.maxConnections),
    maxPendingRequests: bounded(http?.http1MaxPendingRequests),
    maxRequests: bounded(http?.http2MaxRequests),
    maxRequestsPerConnection: bounded(http?.maxRequestsPerConnection),
    maxRetries: bounded(http?.maxRetries),
  };
  return {
    ...defaultPool,
    ...Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined)),
    connectTimeoutMs: ms(tcp?.connectTimeout, 'tcp.connectTimeout') ?? defaultPool.connectTimeoutMs,
    idleTimeoutMs:
      ms(http?.idleTimeout, 'http.idleTimeout') ??
      ms(tcp?.idleTimeout, 'tcp.idleTimeout') ??
      defaultPool.idleTimeoutMs,
  };
}

function compileTls(
  spec: NonNullable<SettingsSpec['tls']>,
  path: string,
  report: Report,
): UpstreamTls | undefined {
  switch (spec.mode) {
    case 'DISABLE':
      return { mode: 'disable' };
    case 'ISTIO_MUTUAL':
      return { mode: 'istio-mutual' };
    case 'SIMPLE':
    case 'MUTUAL': {
      const mode = spec.mode === 'SIMPLE' ? 'simple' : 'mutual';
      report(
        `${path}.tls.mode`,
        `${spec.mode} is not there yet: requests are answered 503 rather than sent in plain text; use DISABLE or ISTIO_MUTUAL`,
      );
      return {
        mode,
        ...(spec.sni === undefined ? {} : { sni: spec.sni }),
        subjectAltNames: spec.subjectAltNames ?? [],
        ...(spec.caCertificates === undefined ? {} : { ca: spec.caCertificates }),
        ...(spec.clientCertificate === undefined ? {} : { certificate: spec.clientCertificate }),
        ...(spec.privateKey === undefined ? {} : { privateKey: spec.privateKey }),
        insecureSkipVerify: spec.insecureSkipVerify ?? false,
      };
    }
    default:
      return undefined;
  }
}

function lengthOf(text: string | undefined, path: string, report: Report): number | undefined {
  if (text === undefined) return undefined;
  const ms = durationMs(text);
  if (ms === undefined) report(path, `${JSON.stringify(text)} is no length of time such as 1.5s`);
  return ms;
}

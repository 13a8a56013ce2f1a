import type {
  Balancing,
  Cluster,
  HashKey,
  OutlierDetection,
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
import { hostnameOf, serviceOfHost } from './istio-host.ts';

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
  const service = serviceOfHost(host, meta.namespace, clusterDomain);
  if (service === undefined)
    report('spec.host', `${JSON.stringify(host)} is no Service of this cluster`);
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
  const outlier = spec.outlierDetection && compileOutlier(spec.outlierDetection, path, report);
  const tls = spec.tls && compileTls(spec.tls, path, report);
  const enabled = spec.loadBalancer?.localityLbSetting?.enabled;
  return {
    ...base,
    balancing: compileBalancing(spec.loadBalancer, path, report) ?? base.balancing,
    locality: enabled === undefined ? base.locality : { ...base.locality, enabled },
    pool:
      spec.connectionPool === undefined
        ? base.pool
        : compilePool(spec.connectionPool, path, report),
    ...(outlier === undefined ? {} : { outlier }),
    ...(tls === undefined ? {} : { tls }),
  };
}

function compileBalancing(
  spec: SettingsSpec['loadBalancer'],
  path: string,
  report: Report,
): Balancing | undefined {
  if (spec === undefined) return undefined;
  if (spec.consistentHash !== undefined) {
    const { ringHash, maglev, minimumRingSize } = spec.consistentHash;
    const key = compileHashKey(spec.consistentHash, `${path}.loadBalancer.consistentHash`, report);
    if (key === undefined) return undefined;
    if (maglev !== undefined) return { kind: 'maglev', key, tableSize: maglev.tableSize ?? 65_537 };
    const size = ringHash?.minimumRingSize ?? minimumRingSize ?? 1024;
    return { kind: 'ring-hash', key, minimumRingSize: size };
  }
  switch (spec.simple) {
    case 'ROUND_ROBIN':
      return { kind: 'round-robin' };
    case 'RANDOM':
      return { kind: 'random' };
    case 'PASSTHROUGH':
      return { kind: 'passthrough' };
    case 'LEAST_CONN':
    case 'LEAST_REQUEST':
      return { kind: 'least-request' };
    default:
      return undefined;
  }
}

function compileHashKey(
  spec: NonNullable<NonNullable<SettingsSpec['loadBalancer']>['consistentHash']>,
  path: string,
  report: Report,
): HashKey | undefined {
  if (spec.httpHeaderName !== undefined) return { kind: 'header', name: spec.httpHeaderName };
  if (spec.httpQueryParameterName !== undefined)
    return { kind: 'query', name: spec.httpQueryParameterName };
  if (spec.useSourceIp === true) return { kind: 'source-ip' };
  const { httpCookie } = spec;
  if (httpCookie?.name === undefined) {
    report(path, 'needs one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName');
    return undefined;
  }
  const ttl = httpCookie.ttl === undefined ? undefined : durationMs(httpCookie.ttl);
  return {
    kind: 'cookie',
    name: httpCookie.name,
    path: httpCookie.path ?? '/',
    ...(ttl === undefined ? {} : { ttlSeconds: ttl / 1000 }),
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

function compileOutlier(
  spec: NonNullable<SettingsSpec['outlierDetection']>,
  path: string,
  report: Report,
): OutlierDetection {
  const at = `${path}.outlierDetection`;
  return {
    consecutive5xx: spec.consecutive5xxErrors ?? 5,
    consecutiveGatewayErrors: spec.consecutiveGatewayErrors ?? 0,
    consecutiveLocalOrigin: spec.consecutiveLocalOriginFailures ?? 5,
    splitExternalLocalOrigin: spec.splitExternalLocalOriginErrors ?? false,
    intervalMs: lengthOf(spec.interval, `${at}.interval`, report) ?? 10_000,
    baseEjectionMs: lengthOf(spec.baseEjectionTime, `${at}.baseEjectionTime`, report) ?? 30_000,
    maxEjectionPercent: spec.maxEjectionPercent ?? 10,
    minHealthPercent: spec.minHealthPercent ?? 0,
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

import type { Cluster, ServiceKey, Subset, TrafficPolicy, TrafficSettings } from '@ambit/api';
import { defaultTraffic, parsePort, serviceKey } from '@ambit/api';

import type { DestinationRuleRecord } from '../kube/decode/configuration.ts';
import type { Problem } from '../kube/decode/fields.ts';
import { field, objectKey, text } from '../kube/decode/fields.ts';
import type { SettingsSpec, TrafficPolicySpec } from '../resources/destination-rule.ts';
import type { HostResolver } from './istio-host.ts';
import { hostnameOf, serviceOfHost } from './istio-host.ts';
import { compileLoadBalancer } from './load-balancer.ts';
import { compileOutlierDetection } from './outlier-detection.ts';
import { compilePool } from './pool-limits.ts';
import { compileUpstreamTls } from './upstream-tls.ts';

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
  const report: Report = Object.assign(
    (field: string, message: string, admissible?: true) =>
      void problems.push({ object, field, message, ...(admissible && { admissible }) }),
    { namespace: meta.namespace },
  );
  const common = {
    key: objectKey(meta),
    namespace: meta.namespace,
    createdAtMs: meta.createdAtMs,
    problems,
  };
  if (!record.spec.ok) {
    const raw = record.spec.error;
    // Without a rule the defaults hold, but where one speaks of TLS plain text must not be one of them.
    const service = mentionsTls(raw)
      ? resolve(text(field(raw, 'host')), meta.namespace)
      : undefined;
    if (service !== undefined)
      report('spec', 'cannot be read and speaks of TLS: requests to its host are answered 503');
    return {
      ...common,
      service: service && serviceKey(service.namespace, hostnameOf(service, clusterDomain)),
      policy: {
        ...defaultTraffic,
        tls: { mode: 'broken', why: 'its DestinationRule cannot be read' },
      },
      subsets: [],
    };
  }
  const { host = '', trafficPolicy, subsets = [] } = record.spec.value;
  const service = resolve(host, meta.namespace);
  if (service === undefined)
    report(
      'spec.host',
      `${JSON.stringify(host)} is no Service of this cluster and no host of a ServiceEntry`,
      true,
    );
  const policy = compilePolicy(trafficPolicy, defaultTraffic, 'spec.trafficPolicy', report);
  return {
    ...common,
    service: service && serviceKey(service.namespace, hostnameOf(service, clusterDomain)),
    policy,
    subsets: subsets.map((subset, index): Subset => {
      const path = `spec.subsets[${index}]`;
      reportName(subsets, index, report);
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

function reportName(
  subsets: readonly { readonly name?: string }[],
  index: number,
  report: Report,
): void {
  const path = `spec.subsets[${index}].name`;
  const { name = '' } = subsets[index] ?? {};
  if (name === '') {
    report(path, 'must not be empty');
    return;
  }
  const first = subsets.findIndex((one) => one.name === name);
  if (first < index) {
    report(
      path,
      `subset ${name} is already defined by spec.subsets[${first}]; rename or remove it`,
    );
  }
}

function mentionsTls(raw: unknown): boolean {
  return JSON.stringify(raw ?? null).includes('"tls":');
}

/** The rules of one service as one: the first that speaks of the whole wins, every subset is kept. */
export function mergeDestinationRules(
  service: ServiceKey,
  rules: readonly CompiledDestinationRule[],
): Cluster | undefined {
  const ordered = inOrder(rules);
  const [first] = ordered;
  if (first === undefined) return undefined;
  const subsets = new Map<string, Subset>();
  for (const subset of ordered.flatMap((rule) => rule.subsets)) {
    if (!subsets.has(subset.name)) subsets.set(subset.name, subset);
  }
  const speaking = ordered.find(speaksOfAll) ?? first;
  return { service, policy: speaking.policy, subsets: [...subsets.values()] };
}

/** The rules of one service: the oldest first, which comes before the others. */
export function inOrder(
  rules: readonly CompiledDestinationRule[],
): readonly CompiledDestinationRule[] {
  return [...rules].sort(
    (left, right) => left.createdAtMs - right.createdAtMs || (left.key < right.key ? -1 : 1),
  );
}

/** Whether a rule has a `trafficPolicy` for all that it does not name. */
export function speaksOfAll({ policy }: CompiledDestinationRule): boolean {
  return policy !== defaultTraffic;
}

/** Where problems go, and whose rule it is. */
interface Report {
  (field: string, message: string, admissible?: true): void;
  readonly namespace: string;
}

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
  const whole: TrafficSettings = {
    ...own,
    ...compileRetryBudget(spec, path, report),
    ...(spec.proxyProtocol === undefined
      ? {}
      : { proxyProtocol: spec.proxyProtocol.version === 'V2' ? 'v2' : 'v1' }),
  };
  const ports = (spec.portLevelSettings ?? []).flatMap((one, index) => {
    const at = `${path}.portLevelSettings[${index}]`;
    const port = parsePort(one.port?.number ?? 0);
    if (!port.ok) {
      report(`${at}.port.number`, port.error.message);
      return [];
    }
    // As in Istio: what a port says stands for itself, nothing of the whole is taken over.
    const settings = compileSettings(one, defaultSettings, at, report);
    // The PROXY protocol and a retry budget can be asked for only for all ports.
    const { proxyProtocol, retryBudget } = whole;
    const shared = {
      ...(proxyProtocol === undefined ? {} : { proxyProtocol }),
      ...(retryBudget === undefined ? {} : { retryBudget }),
    };
    return [{ port: port.value, settings: { ...settings, ...shared } }];
  });
  return {
    ...whole,
    ports: spec.portLevelSettings === undefined ? inheritedPorts : ports,
  };
}

function compileRetryBudget(
  { retryBudget }: TrafficPolicySpec,
  path: string,
  report: Report,
): Pick<TrafficSettings, 'retryBudget'> {
  if (retryBudget === undefined) return {};
  const { percent = 20, minRetryConcurrency = 3 } = retryBudget;
  const good = percent >= 0 && percent <= 100;
  if (!good) report(`${path}.retryBudget.percent`, 'must be from 0 to 100; 20 is used');
  const counted = minRetryConcurrency >= 0;
  if (!counted) {
    report(`${path}.retryBudget.minRetryConcurrency`, 'must not be negative; 3 is used');
  }
  return {
    retryBudget: {
      percent: good ? percent : 20,
      minRetryConcurrency: counted ? minRetryConcurrency : 3,
    },
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
  const tls = spec.tls && compileUpstreamTls(spec.tls, `${path}.tls`, report);
  const { warmup, ...inherited } = base;
  const balancer = spec.loadBalancer && compileLoadBalancer(spec.loadBalancer, path, report);
  return {
    ...inherited,
    ...(balancer ?? (warmup === undefined ? {} : { warmup })),
    pool:
      spec.connectionPool === undefined
        ? base.pool
        : compilePool(spec.connectionPool, `${path}.connectionPool`, report),
    ...(outlier === undefined ? {} : { outlier }),
    ...(tls === undefined ? {} : { tls }),
  };
}

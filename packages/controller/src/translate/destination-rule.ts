import type { Cluster, Port, ServiceKey, Subset, TrafficPolicy } from '@ambit/api';
import { defaultTraffic, serviceKey } from '@ambit/api';

import type { DestinationRuleRecord } from '../kube/decode/configuration.ts';
import type { Problem } from '../kube/decode/fields.ts';
import { field, objectKey, text } from '../kube/decode/fields.ts';
import type { DestinationRuleSpec } from '../resources/destination-rule.ts';
import { exportedToOf } from './export-to.ts';
import type { HostResolver, ServiceName } from './istio-host.ts';
import { hostnameOf, serviceOfHost } from './istio-host.ts';
import type { PolicyLayer, Report } from './traffic-policy.ts';
import { compilePolicy, mergePolicies } from './traffic-policy.ts';
import type { Hosts } from './wildcard-host.ts';
import { wildcardEnding } from './wildcard-host.ts';

/** A subset, and what its own `trafficPolicy` says. */
interface CompiledSubset extends Subset {
  readonly own: PolicyLayer | undefined;
}

export interface CompiledDestinationRule {
  readonly key: string;
  readonly namespace: string;
  readonly createdAtMs: number;
  /** `exportTo`: the namespaces whose proxies may use it, `*` for all of them. */
  readonly exportedTo: readonly string[];
  /** Undefined for a host that is no Service of this cluster, or a spec that cannot be read. */
  readonly service: ServiceKey | undefined;
  /** What the hosts of services end with that a wildcard covers. */
  readonly ending?: string;
  /** What its `trafficPolicy` says; undefined where it has none. */
  readonly own: PolicyLayer | undefined;
  readonly policy: TrafficPolicy;
  /** With the policies that they have where no other rule speaks for all. */
  readonly subsets: readonly CompiledSubset[];
  readonly problems: readonly Problem[];
}

/** The ports of a service; undefined for one that is not there. */
export type PortsOf = (service: ServiceName) => readonly Port[] | undefined;

/** DestinationRule as Istio defines it. Without `portsOf` every name is taken for a service that is there. */
export function compileDestinationRule(
  record: DestinationRuleRecord,
  clusterDomain: string,
  resolve: HostResolver = (host, namespace) => serviceOfHost(host, namespace, clusterDomain),
  portsOf?: PortsOf,
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
    const tls = { mode: 'broken', why: 'its DestinationRule cannot be read' } as const;
    const own = { whole: { tls }, ports: [] };
    return {
      ...common,
      exportedTo: ['*'],
      service: service && serviceKey(service.namespace, hostnameOf(service, clusterDomain)),
      ...(mentionsTls(raw) ? endingOf(text(field(raw, 'host'))) : {}),
      own,
      policy: mergePolicies(own),
      subsets: [],
    };
  }
  const { host = '', trafficPolicy, subsets = [], exportTo } = record.spec.value;
  const service = resolve(host, meta.namespace);
  const ending = endingOf(host);
  if (!isThere(service, portsOf) && ending.ending === undefined) {
    const why = `${JSON.stringify(host)} is no Service of this cluster and no host of a ServiceEntry`;
    report('spec.host', why, true);
  }
  tellStrangePorts(record.spec.value, service, portsOf, report);
  const own = trafficPolicy && compilePolicy(trafficPolicy, 'spec.trafficPolicy', report);
  return {
    ...common,
    exportedTo: compileExportTo(exportTo, report),
    service: service && serviceKey(service.namespace, hostnameOf(service, clusterDomain)),
    ...ending,
    own,
    policy: own === undefined ? defaultTraffic : mergePolicies(own),
    subsets: compileSubsets(subsets, own, report),
    problems,
  };
}

function isThere(service: ServiceName | undefined, portsOf: PortsOf | undefined): boolean {
  return service !== undefined && (portsOf === undefined || portsOf(service) !== undefined);
}

/** Settings of ports that the service does not have are nobody's; a port may come, too. */
function tellStrangePorts(
  { trafficPolicy, subsets = [] }: DestinationRuleSpec,
  service: ServiceName | undefined,
  portsOf: PortsOf | undefined,
  report: Report,
): void {
  const ports = service && portsOf?.(service);
  if (ports === undefined) return;
  const policies = [
    ['spec.trafficPolicy', trafficPolicy] as const,
    ...subsets.map(
      (one, index) => [`spec.subsets[${index}].trafficPolicy`, one.trafficPolicy] as const,
    ),
  ];
  for (const [path, policy] of policies) {
    for (const [index, { port }] of (policy?.portLevelSettings ?? []).entries()) {
      const number = port?.number;
      if (number === undefined || ports.some((one) => one === number)) continue;
      const why = `the host has no port ${number} (${ports.join(', ')}); these settings have no effect`;
      report(`${path}.portLevelSettings[${index}].port.number`, why, true);
    }
  }
}

function endingOf(host: string): { readonly ending?: string } {
  const ending = wildcardEnding(host);
  return ending === undefined ? {} : { ending };
}

/** The hosts that a rule speaks of. */
export function hostsOfRule({
  service,
  ending,
}: Pick<CompiledDestinationRule, 'service' | 'ending'>): Hosts {
  return {
    services: service === undefined ? [] : [service],
    endings: ending === undefined ? [] : [ending],
  };
}

/** A mistake leaves nobody out: without the rule, plain text might go where it asks for TLS. */
function compileExportTo(
  written: readonly string[] | undefined,
  report: Report,
): readonly string[] {
  const mistakes: string[] = [];
  const exportedTo = exportedToOf(written, report.namespace, (field, message) => {
    mistakes.push(field);
    report(field, `${message}; until then the rule is exported to all`);
  });
  return mistakes.length > 0 ? ['*'] : exportedTo;
}

function compileSubsets(
  subsets: NonNullable<DestinationRuleSpec['subsets']>,
  whole: PolicyLayer | undefined,
  report: Report,
): CompiledSubset[] {
  return subsets.map(({ name = '', labels = {}, trafficPolicy }, index) => {
    const path = `spec.subsets[${index}]`;
    reportName(subsets, index, report);
    const own = trafficPolicy && compilePolicy(trafficPolicy, `${path}.trafficPolicy`, report);
    return { name, labels: Object.entries(labels), own, policy: mergePolicies(whole, own) };
  });
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

/**
 * The rules of one service as one: the first that speaks of the whole wins, every subset is kept. As in Istio a
 * subset takes what it does not say from that one, also where it stands in another.
 */
export function mergeDestinationRules(
  service: ServiceKey,
  rules: readonly CompiledDestinationRule[],
): Cluster | undefined {
  const ordered = inOrder(rules);
  const [first] = ordered;
  if (first === undefined) return undefined;
  const speaking = ordered.find(speaksOfAll) ?? first;
  const subsets = new Map<string, Subset>();
  for (const { name, labels, own } of ordered.flatMap((rule) => rule.subsets)) {
    if (subsets.has(name)) continue;
    subsets.set(name, { name, labels, policy: mergePolicies(speaking.own, own) });
  }
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
export function speaksOfAll({ own }: CompiledDestinationRule): boolean {
  return own !== undefined;
}

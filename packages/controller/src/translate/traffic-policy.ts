import type {
  OutlierDetection,
  PoolLimits,
  Port,
  TrafficPolicy,
  TrafficSettings,
  UpstreamTls,
} from '@ambit/api';
import { defaultTraffic, parsePort } from '@ambit/api';

import type { SettingsSpec, TrafficPolicySpec } from '../resources/destination-rule.ts';
import type { LoadBalancer } from './load-balancer.ts';
import { compileLoadBalancer } from './load-balancer.ts';
import { compileOutlierDetection } from './outlier-detection.ts';
import { compilePool } from './pool-limits.ts';
import { compileUpstreamTls } from './upstream-tls.ts';

/** Where problems go, and whose rule it is. */
export interface Report {
  (field: string, message: string, admissible?: true): void;
  readonly namespace: string;
}

/** What can be said of a single port, too. What is absent comes from elsewhere, or is the default. */
interface PortLayer {
  readonly balancer?: LoadBalancer;
  readonly pool?: PoolLimits;
  readonly outlier?: OutlierDetection;
  readonly tls?: UpstreamTls;
}

interface WholeLayer extends PortLayer, Pick<TrafficSettings, 'proxyProtocol' | 'retryBudget'> {}

/** One `trafficPolicy` by itself, of a rule or of a subset of it. */
export interface PolicyLayer {
  readonly whole: WholeLayer;
  readonly ports: readonly { readonly port: Port; readonly layer: PortLayer }[];
}

const nothing: PolicyLayer = { whole: {}, ports: [] };

/**
 * Istio's merge, port by port: of each of the two policies what it says of the port stands for all else that it
 * says. Then what the subset says field by field covers what the rule does; where the subset speaks of the port
 * it covers the four fields that a port has, said or not.
 */
export function mergePolicies(
  rule: PolicyLayer = nothing,
  subset: PolicyLayer = nothing,
): TrafficPolicy {
  // The subset's come first, in their order: paths of fields are made of it.
  const ports = new Set([...subset.ports, ...rule.ports].map(({ port }) => port));
  return {
    ...settingsOf({ ...rule.whole, ...subset.whole }),
    ports: [...ports].map((port) => ({ port, settings: settingsOf(forPort(port, rule, subset)) })),
  };
}

function forPort(port: Port, rule: PolicyLayer, subset: PolicyLayer): WholeLayer {
  const ofPort = ({ ports }: PolicyLayer): PortLayer | undefined =>
    ports.find((one) => one.port === port)?.layer;
  const base: WholeLayer = ofPort(rule) ?? rule.whole;
  const own = ofPort(subset);
  if (own === undefined) return { ...base, ...subset.whole };
  const { proxyProtocol, retryBudget } = base;
  return {
    ...own,
    ...(proxyProtocol === undefined ? {} : { proxyProtocol }),
    ...(retryBudget === undefined ? {} : { retryBudget }),
  };
}

function settingsOf({ balancer, pool, ...rest }: WholeLayer): TrafficSettings {
  const { balancing, locality } = defaultTraffic;
  return { ...(balancer ?? { balancing, locality }), pool: pool ?? defaultTraffic.pool, ...rest };
}

export function compilePolicy(spec: TrafficPolicySpec, path: string, report: Report): PolicyLayer {
  const { proxyProtocol } = spec;
  const whole: WholeLayer = {
    ...compileLayer(spec, path, report),
    ...compileRetryBudget(spec, path, report),
    ...(proxyProtocol === undefined
      ? {}
      : { proxyProtocol: proxyProtocol.version === 'V2' ? 'v2' : 'v1' }),
  };
  const ports = compilePorts(spec, path, report);
  const [one] = ports;
  for (const name of ['proxyProtocol', 'retryBudget'] as const) {
    if (one === undefined || spec[name] === undefined) continue;
    const why = `does not hold for the ports of portLevelSettings, such as ${one.port}`;
    report(`${path}.${name}`, why, true);
  }
  return { whole, ports };
}

function compilePorts(
  { portLevelSettings = [] }: TrafficPolicySpec,
  path: string,
  report: Report,
): PolicyLayer['ports'] {
  const seen = new Map<number, number>();
  return portLevelSettings.flatMap((one, index) => {
    const at = `${path}.portLevelSettings[${index}]`;
    const port = parsePort(one.port?.number ?? 0);
    if (!port.ok) {
      report(`${at}.port.number`, port.error.message);
      return [];
    }
    const layer = compileLayer(one, at, report);
    const first = seen.get(port.value);
    if (first === undefined) {
      seen.set(port.value, index);
      return [{ port: port.value, layer }];
    }
    const other = `${path}.portLevelSettings[${first}]`;
    report(`${at}.port.number`, `is the port of ${other}, which is used; merge them`);
    return [];
  });
}

function compileLayer(spec: SettingsSpec, path: string, report: Report): PortLayer {
  const { loadBalancer, connectionPool, outlierDetection, tls } = spec;
  return {
    ...(loadBalancer && { balancer: compileLoadBalancer(loadBalancer, path, report) }),
    ...(connectionPool && { pool: compilePool(connectionPool, `${path}.connectionPool`, report) }),
    ...(outlierDetection && { outlier: compileOutlierDetection(outlierDetection, path, report) }),
    ...(tls && { tls: compileUpstreamTls(tls, `${path}.tls`, report) }),
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

import type { Balancing, HashKey, LocalityBalancing, TrafficSettings } from '@ambit/api';
import { defaultTraffic } from '@ambit/api';

import type { SettingsSpec } from '../resources/destination-rule.ts';
import { durationMs } from './duration.ts';

type Report = (field: string, message: string) => void;
type LoadBalancerSpec = NonNullable<SettingsSpec['loadBalancer']>;
type HashSpec = NonNullable<LoadBalancerSpec['consistentHash']>;
type LocalitySpec = NonNullable<LoadBalancerSpec['localityLbSetting']>;

export type LoadBalancer = Pick<TrafficSettings, 'balancing' | 'locality' | 'warmup'>;

/** Beyond it a ring takes seconds to make. */
const maxRingSize = 1_048_576;
/** Envoy's limit. */
const maxTableSize = 5_000_011;
const defaultTableSize = 65_537;
const defaultRingSize = 1024;

/** `loadBalancer` of a traffic policy. It stands for itself: of an inherited one nothing is left. */
export function compileLoadBalancer(
  spec: LoadBalancerSpec,
  path: string,
  report: Report,
): LoadBalancer {
  const at = `${path}.loadBalancer`;
  const balancing = compileBalancing(spec, at, report);
  const warmup = compileWarmup(spec, balancing, at, report);
  return {
    balancing,
    locality: compileLocality(spec.localityLbSetting, `${at}.localityLbSetting`, report),
    ...(warmup === undefined ? {} : { warmup }),
  };
}

function compileBalancing(spec: LoadBalancerSpec, path: string, report: Report): Balancing {
  const { consistentHash, simple } = spec;
  if (consistentHash !== undefined) {
    if (simple !== undefined && simple !== 'UNSPECIFIED') {
      report(
        `${path}.simple`,
        'does not go with consistentHash, which is used; remove one of them',
      );
    }
    return compileHash(consistentHash, `${path}.consistentHash`, report);
  }
  switch (simple) {
    case 'ROUND_ROBIN':
      return { kind: 'round-robin' };
    case 'RANDOM':
      return { kind: 'random' };
    case 'PASSTHROUGH':
      return { kind: 'passthrough' };
    default:
      return defaultTraffic.balancing;
  }
}

function compileHash(spec: HashSpec, path: string, report: Report): Balancing {
  const key = compileHashKey(spec, path, report);
  if (key === undefined) return defaultTraffic.balancing;
  const { ringHash, maglev, minimumRingSize } = spec;
  if (ringHash !== undefined && maglev !== undefined) {
    report(`${path}.maglev`, 'does not go with ringHash; remove one of them');
  }
  if (maglev !== undefined) {
    const tableSize = maglev.tableSize ?? defaultTableSize;
    if (tableSize <= maxTableSize && isPrime(tableSize)) return { kind: 'maglev', key, tableSize };
    report(
      `${path}.maglev.tableSize`,
      `must be a prime of at most ${maxTableSize}; ${defaultTableSize} is used`,
    );
    return { kind: 'maglev', key, tableSize: defaultTableSize };
  }
  const size = ringHash?.minimumRingSize ?? minimumRingSize ?? defaultRingSize;
  if (size >= 0 && size <= maxRingSize) return { kind: 'ring-hash', key, minimumRingSize: size };
  const field = ringHash?.minimumRingSize === undefined ? '' : 'ringHash.';
  report(
    `${path}.${field}minimumRingSize`,
    `must be from 0 to ${maxRingSize}; ${defaultRingSize} is used`,
  );
  return { kind: 'ring-hash', key, minimumRingSize: defaultRingSize };
}

function isPrime(value: number): boolean {
  if (value < 2) return false;
  for (let divisor = 2; divisor * divisor <= value; divisor += 1) {
    if (value % divisor === 0) return false;
  }
  return true;
}

function compileHashKey(spec: HashSpec, path: string, report: Report): HashKey | undefined {
  const { httpHeaderName, httpQueryParameterName, useSourceIp, httpCookie } = spec;
  const keys: HashKey[] = [];
  if (httpHeaderName !== undefined)
    keys.push({ kind: 'header', name: httpHeaderName.toLowerCase() });
  if (httpCookie !== undefined) keys.push(...compileCookie(httpCookie, path, report));
  if (useSourceIp === true) keys.push({ kind: 'source-ip' });
  if (httpQueryParameterName !== undefined) {
    keys.push({ kind: 'query', name: httpQueryParameterName });
  }
  if (keys.length !== 1) {
    const which = 'one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName';
    report(
      path,
      keys.length === 0 ? `needs ${which}` : `takes only ${which}; the first of them is used`,
    );
  }
  return keys[0];
}

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** What may stand in a cookie's attribute, so that none can end it and begin another. */
const attributeValue = /^[\x20-\x3a\x3c-\x7e]*$/;

function compileCookie(
  { name = '', path: cookiePath = '/', ttl, attributes = [] }: NonNullable<HashSpec['httpCookie']>,
  path: string,
  report: Report,
): readonly HashKey[] {
  const at = `${path}.httpCookie`;
  if (!token.test(name)) {
    report(`${at}.name`, 'must be the name of a cookie');
    return [];
  }
  if (!attributeValue.test(cookiePath)) {
    report(`${at}.path`, 'must be a path without semicolons and control characters');
    return [];
  }
  const ttlMs = ttl === undefined ? undefined : durationMs(ttl);
  if (ttl !== undefined && ttlMs === undefined) {
    report(`${at}.ttl`, `${JSON.stringify(ttl)} is no length of time such as 1.5s`);
  }
  const own = attributes.flatMap(({ name: attribute = '', value = '' }, index) => {
    if (token.test(attribute) && attributeValue.test(value)) return [[attribute, value] as const];
    report(`${at}.attributes[${index}]`, 'must be a name and a value without semicolons');
    return [];
  });
  return [
    {
      kind: 'cookie',
      name,
      path: cookiePath,
      ...(ttlMs === undefined ? {} : { ttlSeconds: Math.ceil(ttlMs / 1000) }),
      ...(own.length === 0 ? {} : { attributes: own }),
    },
  ];
}

function compileWarmup(
  { warmup, warmupDurationSecs }: LoadBalancerSpec,
  balancing: Balancing,
  path: string,
  report: Report,
): LoadBalancer['warmup'] {
  const text = warmup?.duration ?? warmupDurationSecs;
  if (warmup === undefined && text === undefined) return undefined;
  const at = warmup === undefined ? `${path}.warmupDurationSecs` : `${path}.warmup`;
  const ms = text === undefined ? undefined : durationMs(text);
  const field = warmup === undefined ? at : `${at}.duration`;
  if (ms === undefined || ms <= 0) {
    report(field, 'must be a length of time such as 30s');
    return undefined;
  }
  if (balancing.kind !== 'round-robin' && balancing.kind !== 'least-request') {
    report(at, 'is for ROUND_ROBIN and LEAST_REQUEST; remove it');
    return undefined;
  }
  return { durationMs: ms, ...warmupShape(warmup ?? {}, at, report) };
}

function warmupShape(
  { minimumPercent = 10, aggression = 1 }: NonNullable<LoadBalancerSpec['warmup']>,
  path: string,
  report: Report,
): { readonly minimumPercent: number; readonly aggression: number } {
  const good = minimumPercent >= 0 && minimumPercent <= 100;
  if (!good) report(`${path}.minimumPercent`, 'must be from 0 to 100; 10 is used');
  if (aggression < 1) report(`${path}.aggression`, 'must be at least 1, which is used');
  return { minimumPercent: good ? minimumPercent : 10, aggression: Math.max(1, aggression) };
}

/** Labels whose place the regions of `failover` take. */
const localityLabels: ReadonlySet<string> = new Set([
  'topology.kubernetes.io/region',
  'topology.kubernetes.io/zone',
  'topology.istio.io/subzone',
]);

function compileLocality(
  spec: LocalitySpec | undefined,
  path: string,
  report: Report,
): LocalityBalancing {
  if (spec === undefined) return defaultTraffic.locality;
  const { failoverPriority = [] } = spec;
  const failover = compileFailover(spec.failover, path, report);
  if ((spec.distribute ?? []).length > 0 && failover.length + failoverPriority.length > 0) {
    report(
      `${path}.distribute`,
      'does not go with failover and failoverPriority, which are not used; remove one of them',
    );
  }
  const clash = failoverPriority.find((label) => localityLabels.has(label));
  if (failover.length > 0 && clash !== undefined) {
    report(`${path}.failoverPriority`, `${clash} does not go with failover; remove one of them`);
  }
  return {
    enabled: spec.enabled ?? true,
    distribute: compileDistribute(spec.distribute, path, report),
    failover,
    failoverPriority,
  };
}

function compileFailover(
  rules: LocalitySpec['failover'],
  path: string,
  report: Report,
): LocalityBalancing['failover'] {
  return (rules ?? []).flatMap(({ from = '', to = '' }, index) => {
    if (from !== '' && to !== '' && from !== to && !`${from}${to}`.includes('/')) {
      return [{ from, to }];
    }
    report(`${path}.failover[${index}]`, 'must name two different regions, without zones');
    return [];
  });
}

function compileDistribute(
  rules: LocalitySpec['distribute'],
  path: string,
  report: Report,
): LocalityBalancing['distribute'] {
  return (rules ?? []).flatMap(({ from = '', to = {} }, index) => {
    const at = `${path}.distribute[${index}]`;
    const shares = Object.entries(to);
    const sum = shares.reduce((total, [, weight]) => total + weight, 0);
    if (from === '') report(`${at}.from`, 'must be a locality such as region/zone/*');
    if (sum !== 100 || shares.some(([, weight]) => weight < 0)) {
      report(`${at}.to`, `weights must sum to 100, not ${sum}; the rule is left out`);
      return [];
    }
    return from === '' ? [] : [{ from, to: shares }];
  });
}

import type { PoolLimits } from '@ambit/api';
import { defaultPool } from '@ambit/api';

import type { SettingsSpec } from '../resources/destination-rule.ts';
import { durationMs } from './duration.ts';

type PoolSpec = NonNullable<SettingsSpec['connectionPool']>;
type Report = (field: string, message: string) => void;

/** `trafficPolicy.connectionPool`. */
export function compilePool(
  { tcp = {}, http = {} }: PoolSpec,
  path: string,
  report: Report,
): PoolLimits {
  const tcpIdleTimeoutMs = lengthOf(tcp.idleTimeout, `${path}.tcp.idleTimeout`, report);
  const lifetimeMs = lengthOf(
    tcp.maxConnectionDuration,
    `${path}.tcp.maxConnectionDuration`,
    report,
  );
  const connectAt = `${path}.tcp.connectTimeout`;
  const connectMs = lengthOf(tcp.connectTimeout, connectAt, report);
  const isShort = connectMs !== undefined && connectMs < 1;
  if (isShort) report(connectAt, 'must be at least 1ms; the 10s of the default are used');
  const idleMs = lengthOf(http.idleTimeout, `${path}.http.idleTimeout`, report);
  const count = (value: number | undefined, field: string): number | undefined =>
    bounded(value, `${path}.${field}`, report);
  const limits = said({
    maxConnections: count(tcp.maxConnections, 'tcp.maxConnections'),
    maxPendingRequests: count(http.http1MaxPendingRequests, 'http.http1MaxPendingRequests'),
    maxRequests: count(http.http2MaxRequests, 'http.http2MaxRequests'),
    maxRequestsPerConnection: count(http.maxRequestsPerConnection, 'http.maxRequestsPerConnection'),
    maxRetries: count(http.maxRetries, 'http.maxRetries'),
    maxConcurrentStreams: count(http.maxConcurrentStreams, 'http.maxConcurrentStreams'),
    tcpIdleTimeoutMs,
    maxConnectionDurationMs: lifetimeMs === 0 ? undefined : lifetimeMs,
    keepalive: compileKeepalive(tcp.tcpKeepalive, `${path}.tcp.tcpKeepalive`, report),
  });
  return {
    ...defaultPool,
    ...limits,
    connectTimeoutMs: connectMs === undefined || isShort ? defaultPool.connectTimeoutMs : connectMs,
    idleTimeoutMs: idleMs ?? tcpIdleTimeoutMs ?? defaultPool.idleTimeoutMs,
    h2Upgrade: h2Upgrades[http.h2UpgradePolicy ?? 'DEFAULT'],
    useClientProtocol: http.useClientProtocol ?? false,
  };
}

const h2Upgrades = {
  DEFAULT: 'default',
  UPGRADE: 'upgrade',
  DO_NOT_UPGRADE: 'do-not-upgrade',
} as const;

function compileKeepalive(
  spec: NonNullable<PoolSpec['tcp']>['tcpKeepalive'],
  path: string,
  report: Report,
): PoolLimits['keepalive'] {
  if (spec === undefined) return undefined;
  return said({
    timeMs: lengthOf(spec.time, `${path}.time`, report),
    intervalMs: lengthOf(spec.interval, `${path}.interval`, report),
    probes: bounded(spec.probes, `${path}.probes`, report),
  });
}

/** In Istio's resources 0 means that there is no limit. */
function bounded(value: number | undefined, path: string, report: Report): number | undefined {
  if (value !== undefined && value < 0) report(path, 'must not be negative; it is left out');
  return value === undefined || value <= 0 ? undefined : value;
}

type Said<T> = { readonly [K in keyof T]?: Exclude<T[K], undefined> };

function said<T extends object>(all: T): Said<T> {
  const kept = Object.entries(all).filter(([, value]) => value !== undefined);
  return Object.fromEntries(kept) as Said<T>;
}

/** Milliseconds of a length of time; one that cannot be read is told. */
function lengthOf(text: string | undefined, path: string, report: Report): number | undefined {
  if (text === undefined) return undefined;
  const ms = durationMs(text);
  if (ms === undefined) report(path, `${JSON.stringify(text)} is no length of time such as 1.5s`);
  return ms;
}

import type { Cluster, Result, ServiceKey } from '@ambit/api';
import { defaultTraffic, err, healthCheckAnnotation, ok, parsePort } from '@ambit/api';

import { durationMs } from './duration.ts';

export type HealthCheck = NonNullable<Cluster['healthCheck']>;

const minIntervalMs = 100;
const maxMs = 3_600_000;
const maxThreshold = 100;
const pathForm = /^\/[!-~]{0,1023}$/;

type Reading = (value: string) => Partial<Record<keyof HealthCheck, unknown>> | string;

const length =
  (field: 'intervalMs' | 'timeoutMs', least: number): Reading =>
  (value) => {
    const ms = durationMs(value);
    const good = ms !== undefined && ms >= least && ms <= maxMs;
    return good ? { [field]: ms } : `must be a length of time from ${least}ms to 1h such as 5s`;
  };

const count =
  (field: 'unhealthyThreshold' | 'healthyThreshold'): Reading =>
  (value) => {
    const number = /^\d{1,3}$/.test(value) ? Number(value) : 0;
    const good = number >= 1 && number <= maxThreshold;
    return good ? { [field]: number } : `must be a number from 1 to ${maxThreshold}`;
  };

const readings: ReadonlyMap<string, Reading> = new Map<string, Reading>([
  ['path', (value) => (pathForm.test(value) ? { path: value } : 'must be a path such as /healthz')],
  [
    'port',
    (value) => {
      const port = parsePort(/^\d{1,5}$/.test(value) ? Number(value) : 0);
      return port.ok ? { port: port.value } : 'must be a port of the Service';
    },
  ],
  ['interval', length('intervalMs', minIntervalMs)],
  ['timeout', length('timeoutMs', 10)],
  ['unhealthy', count('unhealthyThreshold')],
  ['healthy', count('healthyThreshold')],
]);

const defaults = {
  intervalMs: 5_000,
  timeoutMs: 1_000,
  unhealthyThreshold: 3,
  healthyThreshold: 2,
};

/** Reads `path=/healthz,interval=5s,timeout=1s,unhealthy=3,healthy=2,port=80`; all but the path may be left out. */
export function parseHealthCheck(text: string): Result<HealthCheck, string> {
  const given = new Map<string, unknown>();
  const seen = new Set<string>();
  for (const part of text.split(',')) {
    const at = part.indexOf('=');
    const name = part.slice(0, Math.max(0, at)).trim();
    const reading = readings.get(name);
    if (reading === undefined) {
      const names = [...readings.keys()].join(', ');
      return err(`${JSON.stringify(part.trim())} is none of ${names} with a value`);
    }
    if (seen.has(name)) return err(`${name} is there twice`);
    seen.add(name);
    const read = reading(part.slice(at + 1).trim());
    if (typeof read === 'string') return err(`${name} ${read}`);
    for (const [field, value] of Object.entries(read)) given.set(field, value);
  }
  if (!seen.has('path')) return err('needs a path, such as path=/healthz');
  return ok({ ...defaults, ...Object.fromEntries(given) } as HealthCheck);
}

/** The service's cluster with the check that its annotation asks for; a malformed one is told on status and asks for none. */
export function withHealthCheck(
  cluster: Cluster | undefined,
  service: ServiceKey,
  annotations: ReadonlyMap<string, string> = new Map<string, string>(),
): Cluster | undefined {
  const text = annotations.get(healthCheckAnnotation);
  const check = text === undefined ? undefined : parseHealthCheck(text);
  if (check?.ok !== true) return cluster;
  return {
    ...(cluster ?? { service, policy: defaultTraffic, subsets: [] }),
    healthCheck: check.value,
  };
}

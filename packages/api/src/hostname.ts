import type { Brand } from './brand.ts';
import type { Result } from './result.ts';
import { err, ok } from './result.ts';

/** A lower-case DNS name without a trailing dot, for example `reviews.shop.svc.cluster.local`. */
export type Hostname = Brand<string, 'Hostname'>;

/** `<namespace>/<hostname>`: the key of a Service, as in Istio's workload API. */
export type ServiceKey = Brand<string, 'ServiceKey'>;

export interface HostnameRejected {
  readonly code: 'hostname/not-a-hostname';
  readonly message: string;
}

const label = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

export function parseHostname(text: string): Result<Hostname, HostnameRejected> {
  const name = text.toLowerCase();
  if (name.length > 0 && name.length <= 253 && name.split('.').every((part) => label.test(part))) {
    return ok(name as Hostname);
  }
  return err({
    code: 'hostname/not-a-hostname',
    message: `${JSON.stringify(text.slice(0, 100))} is no DNS name`,
  });
}

export function serviceKey(namespace: string, hostname: Hostname): ServiceKey {
  return `${namespace}/${hostname}` as ServiceKey;
}

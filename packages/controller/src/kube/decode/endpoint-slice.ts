import type { IpAddress, Port } from '@ambit/api';
import { ok, parseIp, parsePort } from '@ambit/api';

import type { Decode } from '../cache.ts';
import type { Metadata } from './fields.ts';
import { field, list, text, texts } from './fields.ts';

export interface EndpointRecord {
  readonly addresses: readonly IpAddress[];
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly pod:
    { readonly namespace: string; readonly name: string; readonly uid: string } | undefined;
}

export interface EndpointSliceRecord {
  readonly meta: Metadata;
  /** Name of the service it belongs to; empty when it belongs to none. */
  readonly service: string;
  readonly ports: readonly { readonly name: string; readonly port: Port }[];
  readonly endpoints: readonly EndpointRecord[];
}

export const serviceNameLabel = 'kubernetes.io/service-name';

export const decodeEndpointSlice: Decode<EndpointSliceRecord> = (object, meta) => {
  const ports: EndpointSliceRecord['ports'][number][] = [];
  for (const one of list(field(object, 'ports'))) {
    const protocol = text(field(one, 'protocol'));
    const port = parsePort(Number(field(one, 'port')));
    if (port.ok && (protocol === 'TCP' || protocol === '')) {
      ports.push({ name: text(field(one, 'name')), port: port.value });
    }
  }
  const byHostname = text(field(object, 'addressType')) === 'FQDN';
  return ok({
    meta,
    service: meta.labels.get(serviceNameLabel) ?? '',
    ports,
    endpoints: byHostname ? [] : list(field(object, 'endpoints')).map(endpoint),
  });
};

function endpoint(value: unknown): EndpointRecord {
  const conditions = field(value, 'conditions');
  // The API says: an absent `ready` is true, an absent `serving` follows it, an absent `terminating` is false.
  const ready = field(conditions, 'ready') !== false;
  const serving = field(conditions, 'serving');
  const target = field(value, 'targetRef');
  const addresses: IpAddress[] = [];
  for (const one of texts(field(value, 'addresses'))) {
    const ip = parseIp(one);
    if (ip.ok) addresses.push(ip.value);
  }
  return {
    addresses,
    ready,
    serving: typeof serving === 'boolean' ? serving : ready,
    terminating: field(conditions, 'terminating') === true,
    pod:
      text(field(target, 'kind')) === 'Pod'
        ? {
            namespace: text(field(target, 'namespace')),
            name: text(field(target, 'name')),
            uid: text(field(target, 'uid')),
          }
        : undefined,
  };
}

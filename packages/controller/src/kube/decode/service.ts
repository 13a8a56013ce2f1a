import type { IpAddress, IpFamily, Port } from '@ambit/api';
import { err, ok, parseIp, parsePort } from '@ambit/api';

import type { Decode } from '../cache.ts';
import type { Metadata, Problem } from './fields.ts';
import { field, list, objectKey, text, textMap, texts } from './fields.ts';
import { gatewayUidOf } from './owner.ts';

export interface ServicePortRecord {
  readonly name: string;
  readonly port: Port;
  readonly protocol: string;
  readonly appProtocol: string;
  /** A number, or the name of a container port; empty when it equals `port`. */
  readonly targetPort: string;
}

export interface ServiceRecord {
  readonly meta: Metadata;
  readonly type: string;
  readonly headless: boolean;
  readonly clusterIps: readonly IpAddress[];
  readonly ipFamilies: readonly IpFamily[];
  readonly ports: readonly ServicePortRecord[];
  /** Empty where others say who its endpoints are. */
  readonly selector: ReadonlyMap<string, string>;
  readonly trafficDistribution: string;
  readonly internalTrafficPolicy: string;
  readonly publishNotReadyAddresses: boolean;
  /** The Gateway for which it was deployed. */
  readonly gatewayUid?: string;
  /** `status.conditions` as they stand. */
  readonly conditions: unknown;
}

export const decodeService: Decode<ServiceRecord> = (object, meta) => {
  const spec = field(object, 'spec');
  const told = texts(field(spec, 'clusterIPs'));
  const ips = (told.length > 0 ? told : [text(field(spec, 'clusterIP'))]).filter((ip) => ip !== '');
  const clusterIps: IpAddress[] = [];
  for (const one of ips) {
    if (one === 'None') continue;
    const ip = parseIp(one);
    if (!ip.ok) return err(problem(meta, 'spec.clusterIPs', ip.error.message));
    clusterIps.push(ip.value);
  }
  const ports: ServicePortRecord[] = [];
  for (const [index, one] of list(field(spec, 'ports')).entries()) {
    const port = parsePort(Number(field(one, 'port')));
    if (!port.ok) return err(problem(meta, `spec.ports[${index}].port`, port.error.message));
    const protocol = text(field(one, 'protocol'));
    const target = field(one, 'targetPort');
    ports.push({
      name: text(field(one, 'name')),
      port: port.value,
      protocol: protocol === '' ? 'TCP' : protocol,
      appProtocol: text(field(one, 'appProtocol')),
      targetPort: typeof target === 'number' ? String(target) : text(target),
    });
  }
  const gatewayUid = gatewayUidOf(object);
  const families = texts(field(spec, 'ipFamilies'));
  return ok({
    meta,
    type: text(field(spec, 'type')),
    headless: ips.includes('None'),
    clusterIps,
    ipFamilies: families.filter((one): one is IpFamily => one === 'IPv4' || one === 'IPv6'),
    ports,
    selector: textMap(field(spec, 'selector')),
    trafficDistribution: text(field(spec, 'trafficDistribution')),
    internalTrafficPolicy: text(field(spec, 'internalTrafficPolicy')),
    publishNotReadyAddresses: field(spec, 'publishNotReadyAddresses') === true,
    ...(gatewayUid === undefined ? {} : { gatewayUid }),
    conditions: field(object, 'status', 'conditions'),
  });
};

function problem(meta: Metadata, path: string, message: string): Problem {
  return { object: `Service ${objectKey(meta)}`, field: path, message };
}

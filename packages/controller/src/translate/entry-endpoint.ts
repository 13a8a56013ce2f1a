import type { Hostname, IpAddress, Locality, Port } from '@ambit/api';
import { cidrContains, parseCidr, parseHostname, parseIp, parsePort } from '@ambit/api';

import type { WorkloadEntryRecord } from '../kube/decode/configuration.ts';
import type { Metadata, Problem } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import type { WorkloadEntrySpec } from '../resources/service-entry.ts';

/** An endpoint that is no pod: an address, or a name that whoever calls it resolves. */
export interface EntryEndpoint {
  readonly ip?: IpAddress;
  readonly hostname?: Hostname;
  /** By names of service ports, where they are others than the service's target ports. */
  readonly ports: ReadonlyMap<string, Port>;
  readonly labels: ReadonlyMap<string, string>;
  readonly network: string;
  readonly locality: Locality;
  readonly serviceAccount: string;
  readonly weight?: number;
}

export interface CompiledWorkloadEntry {
  readonly meta: Metadata;
  readonly status: unknown;
  /** Undefined when it cannot be used. */
  readonly endpoint: EntryEndpoint | undefined;
  readonly problems: readonly Problem[];
}

export type Report = (field: string, message: string) => void;

const kept = [
  '127.0.0.0/8',
  '0.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '::/127',
  'fe80::/10',
  'ff00::/8',
].flatMap((text) => {
  const cidr = parseCidr(text);
  return cidr.ok ? [cidr.value] : [];
});

/** True for what is no host of its own: loopback and link-local addresses mean the machine of whoever calls them. */
export function isReservedAddress(ip: IpAddress): boolean {
  return kept.some((range) => cidrContains(range, ip));
}

/** `resolvable`: a name may stand for the address. */
export function compileEntryEndpoint(
  spec: WorkloadEntrySpec,
  path: string,
  resolvable: boolean,
  report: Report,
): EntryEndpoint | undefined {
  const where = whereOf(spec.address ?? '', `${path}.address`, resolvable, report);
  if (where === undefined) return undefined;
  const ports = new Map<string, Port>();
  for (const [name, number] of Object.entries(spec.ports ?? {})) {
    const port = parsePort(number);
    if (port.ok) ports.set(name, port.value);
    else report(`${path}.ports[${name.slice(0, 63)}]`, port.error.message);
  }
  const [region = '', zone = '', subzone = ''] = (spec.locality ?? '').split('/');
  return {
    ...where,
    ports,
    labels: new Map(Object.entries(spec.labels ?? {})),
    network: spec.network ?? '',
    locality: { region, zone, subzone },
    serviceAccount: spec.serviceAccount ?? '',
    // Nothing and 0 both mean 1.
    ...(spec.weight === undefined || spec.weight < 2 ? {} : { weight: spec.weight }),
  };
}

function whereOf(
  address: string,
  path: string,
  resolvable: boolean,
  report: Report,
): Pick<EntryEndpoint, 'ip' | 'hostname'> | undefined {
  const ip = parseIp(address);
  if (ip.ok) {
    if (!isReservedAddress(ip.value)) return { ip: ip.value };
    report(path, `${address} is loopback, link-local or multicast, and no endpoint`);
    return undefined;
  }
  if (address.startsWith('unix://')) {
    report(path, 'unix sockets are of one machine and cannot be reached; give an address');
    return undefined;
  }
  const hostname = parseHostname(address);
  if (hostname.ok && resolvable) return { hostname: hostname.value };
  report(
    path,
    hostname.ok
      ? 'a name needs resolution DNS or DNS_ROUND_ROBIN; give an IP address or set that'
      : 'must be an IP address or a DNS name',
  );
  return undefined;
}

export function compileWorkloadEntry(record: WorkloadEntryRecord): CompiledWorkloadEntry {
  const { meta, status } = record;
  const problems: Problem[] = [...record.problems];
  const object = `WorkloadEntry ${objectKey(meta)}`;
  const report: Report = (field, message) => void problems.push({ object, field, message });
  const endpoint = record.spec.ok
    ? compileEntryEndpoint(record.spec.value, 'spec', true, report)
    : undefined;
  return { meta, status, endpoint, problems };
}

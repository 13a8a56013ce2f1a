import type { EndpointSlice, Pod, Service } from '../cluster/objects.ts';

/** What a name resolves to. `undefined` from `lookup` means that there is no such name. */
export interface NameRecords {
  readonly a: readonly string[];
  readonly aaaa: readonly string[];
  readonly srv: readonly { readonly target: string; readonly port: number }[];
  readonly ptr: readonly string[];
  readonly cname: string | undefined;
}

export interface DnsView {
  lookup(name: string): NameRecords | undefined;
  /** Whether the name is below a zone that this server answers for. */
  owns(name: string): boolean;
}

const serviceNameLabel = 'kubernetes.io/service-name';

interface Building {
  a: string[];
  aaaa: string[];
  srv: { target: string; port: number }[];
  ptr: string[];
  cname: string | undefined;
}

/** The names of a cluster by the Kubernetes DNS specification 1.1.0: services, headless endpoints, pods, reverse. */
export function buildDnsView(
  domain: string,
  objects: {
    services: readonly Service[];
    slices: readonly EndpointSlice[];
    pods: readonly Pod[];
  },
): DnsView {
  const zone = new Zone(domain);
  const slicesOf = Map.groupBy(
    objects.slices,
    (slice) =>
      `${slice.metadata.namespace ?? ''}/${slice.metadata.labels?.[serviceNameLabel] ?? ''}`,
  );
  for (const service of objects.services) {
    const key = `${service.metadata.namespace ?? ''}/${service.metadata.name}`;
    addService(zone, service, slicesOf.get(key) ?? []);
  }
  for (const pod of objects.pods) {
    for (const { ip } of pod.status?.podIPs ?? []) {
      const dashed = ip.replaceAll(/[.:]/g, '-');
      zone.address(`${dashed}.${pod.metadata.namespace ?? ''}.pod.${domain}`, ip);
    }
  }
  return zone;
}

class Zone implements DnsView {
  readonly domain: string;
  readonly #names = new Map<string, Building>();

  constructor(domain: string) {
    this.domain = domain;
    for (const name of [domain, `svc.${domain}`, `pod.${domain}`]) this.at(name);
  }

  lookup(name: string): NameRecords | undefined {
    return this.#names.get(name.toLowerCase());
  }

  owns(name: string): boolean {
    const lower = name.toLowerCase();
    const zones = [this.domain, 'in-addr.arpa', 'ip6.arpa'];
    return zones.some((zone) => lower === zone || lower.endsWith(`.${zone}`));
  }

  /** The records of a name, which exists from now on. */
  at(name: string): Building {
    const key = name.toLowerCase();
    const found = this.#names.get(key);
    if (found !== undefined) return found;
    const made: Building = { a: [], aaaa: [], srv: [], ptr: [], cname: undefined };
    this.#names.set(key, made);
    addParents(this.#names, key, this.domain);
    return made;
  }

  address(name: string, ip: string): void {
    const record = this.at(name);
    const list = ip.includes(':') ? record.aaaa : record.a;
    if (!list.includes(ip)) list.push(ip);
  }

  srv(
    service: string,
    port: { name?: string; protocol?: string; port?: number },
    target: string,
  ): void {
    if (port.name === undefined || port.name === '' || port.port === undefined) return;
    const name = `_${port.name}._${(port.protocol ?? 'TCP').toLowerCase()}.${service}`;
    this.at(name).srv.push({ target, port: port.port });
  }
}

function addService(zone: Zone, service: Service, slices: readonly EndpointSlice[]): void {
  const name = `${service.metadata.name}.${service.metadata.namespace ?? ''}.svc.${zone.domain}`;
  const record = zone.at(name);
  const { type, externalName, clusterIP = '', ports = [] } = service.spec;
  if (type === 'ExternalName') {
    record.cname = externalName;
    return;
  }
  const ips = (service.spec.clusterIPs ?? [clusterIP]).filter((ip) => ip !== '');
  if (ips.includes('None')) {
    for (const slice of slices) addHeadless(zone, name, slice);
    return;
  }
  for (const ip of ips) {
    zone.address(name, ip);
    zone.at(reverseName(ip)).ptr.push(name);
  }
  for (const port of ports) zone.srv(name, port, name);
}

/** A headless service is its ready endpoints, each with a name of its own. */
function addHeadless(zone: Zone, service: string, slice: EndpointSlice): void {
  for (const endpoint of slice.endpoints) {
    if (endpoint.conditions?.ready === false) continue;
    for (const ip of endpoint.addresses) {
      const host = `${endpoint.hostname ?? ip.replaceAll(/[.:]/g, '-')}.${service}`;
      zone.address(service, ip);
      zone.address(host, ip);
      zone.at(reverseName(ip)).ptr.push(host);
      for (const port of slice.ports ?? []) zone.srv(service, port, host);
    }
  }
}

/** A name above an existing one exists too, though it has no records (RFC 8020). */
function addParents(names: Map<string, Building>, name: string, domain: string): void {
  for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
    const parent = name.slice(dot + 1);
    if (!parent.endsWith(domain) || names.has(parent)) return;
    names.set(parent, { a: [], aaaa: [], srv: [], ptr: [], cname: undefined });
  }
}

/** `10.96.0.10` → `10.0.96.10.in-addr.arpa`; IPv6 by nibbles. */
export function reverseName(ip: string): string {
  if (!ip.includes(':')) return `${ip.split('.').toReversed().join('.')}.in-addr.arpa`;
  const [head = '', tail] = ip.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const middle = Array.from(
    { length: tail === undefined ? 0 : 8 - left.length - right.length },
    () => '0',
  );
  const nibbles = [...left, ...middle, ...right].map((group) => group.padStart(4, '0')).join('');
  return `${nibbles.split('').toReversed().join('.')}.ip6.arpa`;
}

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
  objects: { services: readonly Service[]; slices: readonly EndpointSlice[]; pods: readonly Pod[] },
): DnsView {
  const names = new Map<string, Building>();
  const at = (name: string): Building => {
    const key = name.toLowerCase();
    let found = names.get(key);
    if (found === undefined) {
      found = { a: [], aaaa: [], srv: [], ptr: [], cname: undefined };
      names.set(key, found);
      addParents(names, key, domain);
    }
    return found;
  };
  const address = (name: string, ip: string): void => {
    const record = at(name);
    const list = ip.includes(':') ? record.aaaa : record.a;
    if (!list.includes(ip)) list.push(ip);
  };
  at(domain);
  at(`svc.${domain}`);
  at(`pod.${domain}`);
  const slicesOf = Map.groupBy(
    objects.slices,
    (slice) =>
      `${slice.metadata.namespace ?? ''}/${slice.metadata.labels?.[serviceNameLabel] ?? ''}`,
  );
  for (const service of objects.services) {
    const name = `${service.metadata.name}.${service.metadata.namespace ?? ''}.svc.${domain}`;
    if (service.spec.type === 'ExternalName') {
      at(name).cname = service.spec.externalName;
      continue;
    }
    const ips = (service.spec.clusterIPs ?? [service.spec.clusterIP ?? '']).filter(
      (ip) => ip !== '',
    );
    if (ips.includes('None')) {
      addHeadless(
        service,
        slicesOf.get(`${service.metadata.namespace ?? ''}/${service.metadata.name}`) ?? [],
      );
      continue;
    }
    at(name);
    for (const ip of ips) {
      address(name, ip);
      at(reverseName(ip)).ptr.push(name);
    }
    for (const port of service.spec.ports ?? []) {
      if (port.name === undefined || port.name === '') continue;
      at(srvName(port.name, port.protocol, name)).srv.push({ target: name, port: port.port });
    }
  }

  function addHeadless(service: Service, slices: readonly EndpointSlice[]): void {
    const name = `${service.metadata.name}.${service.metadata.namespace ?? ''}.svc.${domain}`;
    at(name);
    for (const slice of slices) {
      for (const endpoint of slice.endpoints) {
        if (endpoint.conditions?.ready === false) continue;
        for (const ip of endpoint.addresses) {
          const host = `${endpoint.hostname ?? ip.replaceAll(/[.:]/g, '-')}.${name}`;
          address(name, ip);
          address(host, ip);
          at(reverseName(ip)).ptr.push(host);
          for (const port of slice.ports ?? []) {
            if (port.name === undefined || port.name === '' || port.port === undefined) continue;
            at(srvName(port.name, port.protocol, name)).srv.push({ target: host, port: port.port });
          }
        }
      }
    }
  }

  for (const pod of objects.pods) {
    for (const { ip } of pod.status?.podIPs ?? []) {
      address(`${ip.replaceAll(/[.:]/g, '-')}.${pod.metadata.namespace ?? ''}.pod.${domain}`, ip);
    }
  }
  return {
    lookup: (name) => names.get(name.toLowerCase()),
    owns: (name) => {
      const lower = name.toLowerCase();
      const zones = [domain, 'in-addr.arpa', 'ip6.arpa'];
      return zones.some((zone) => lower === zone || lower.endsWith(`.${zone}`));
    },
  };
}

/** A name above an existing one exists too, though it has no records (RFC 8020). */
function addParents(names: Map<string, Building>, name: string, domain: string): void {
  for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
    const parent = name.slice(dot + 1);
    if (!parent.endsWith(domain) || names.has(parent)) return;
    names.set(parent, { a: [], aaaa: [], srv: [], ptr: [], cname: undefined });
  }
}

function srvName(port: string, protocol: string | undefined, service: string): string {
  return `_${port}._${(protocol ?? 'TCP').toLowerCase()}.${service}`;
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

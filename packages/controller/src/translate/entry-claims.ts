import type { Hostname, IpAddress, Service } from '@ambit/api';
import { familyOf } from '@ambit/api';

import type { Aged } from './age.ts';
import { isOlder } from './age.ts';
import type { CompiledServiceEntry } from './service-entry.ts';
import { isPublic } from './service-entry.ts';
import type { Binding } from './waypoint.ts';

/** What is said of a ServiceEntry that holds less than it says. */
export interface EntryNote {
  readonly reason: 'Conflict' | 'NotCaptured';
  readonly field: string;
  readonly message: string;
}

/** Who else there is. */
export interface ClaimWorld {
  readonly clusterDomain: string;
  /** `namespace/name` of the Service that has the name or the address. */
  serviceOf(what: Hostname | IpAddress): string | undefined;
  /** Of the pod that has the address. */
  podOf(ip: IpAddress): string | undefined;
  /** Of the entries that claim it the oldest but for one: of those of a namespace, or without one of those that others see. */
  firstOf(
    what: Hostname | IpAddress,
    among: { readonly namespace: string | undefined; readonly except: string },
  ): Aged | undefined;
}

export interface ResolvedEntry {
  readonly entry: CompiledServiceEntry;
  readonly services: readonly Service[];
  readonly binding: Binding;
  readonly notes: readonly EntryNote[];
}

/**
 * What a ServiceEntry gets of what it claims. Nobody else's traffic moves by it: a name or address of the cluster stays
 * what it is, and what an older entry of another namespace has is the new one's for clients of its own namespace only.
 */
export function resolveEntry(
  entry: CompiledServiceEntry,
  binding: Binding,
  withoutWaypoint: Service['withoutWaypoint'],
  world: ClaimWorld,
): ResolvedEntry {
  const claims = new Claims(entry, world);
  const hosts = entry.hosts.filter((host, index) => claims.host(host, `spec.hosts[${index}]`));
  const vips = claims.captured(
    entry.vips.filter((ip) => claims.address(ip, 'spec.addresses')),
    hosts,
    binding,
  );
  const { name, namespace } = entry.meta;
  const visibleTo = claims.scoped ? [namespace] : entry.visibleTo;
  const services = hosts.map((hostname, index): Service => ({
    name: hostname,
    namespace,
    hostname,
    vips: index === 0 ? vips : [],
    ipFamilies: [...new Set(vips.map(familyOf))],
    ports: entry.ports.map(({ name: portName, port, appProtocol }) => ({
      name: portName,
      port,
      appProtocol,
    })),
    loadBalancing: { mode: 'any' },
    publishNotReady: false,
    ...(binding.kind === 'none' ? {} : { waypoint: binding.ref }),
    withoutWaypoint,
    entry: {
      name,
      location: entry.location,
      resolution: entry.resolution,
      subjectAltNames: entry.subjectAltNames,
    },
    ...(visibleTo === undefined ? {} : { visibleTo }),
  }));
  return { entry, services, binding, notes: claims.notes };
}

class Claims {
  readonly notes: EntryNote[] = [];
  /** It holds for clients of its own namespace only. */
  scoped = false;
  readonly #entry: CompiledServiceEntry;
  readonly #world: ClaimWorld;

  constructor(entry: CompiledServiceEntry, world: ClaimWorld) {
    this.#entry = entry;
    this.#world = world;
  }

  host(host: Hostname, field: string): boolean {
    const { namespace } = this.#entry.meta;
    const service = this.#world.serviceOf(host);
    if (service !== undefined) {
      return this.#refused(field, `${host} is the name of Service ${service}; choose another`);
    }
    const domain = `.svc.${this.#world.clusterDomain}`;
    if (host.endsWith(domain) && !host.endsWith(`.${namespace}${domain}`)) {
      return this.#refused(field, `${host} is a name of another namespace; choose another`);
    }
    return this.#among(host, field);
  }

  address(ip: IpAddress, field: string): boolean {
    const service = this.#world.serviceOf(ip);
    if (service !== undefined)
      return this.#refused(field, `${ip} is an address of Service ${service}; remove it`);
    const pod = this.#world.podOf(ip);
    if (pod !== undefined)
      return this.#refused(field, `${ip} is the address of Pod ${pod}; remove it`);
    return this.#among(ip, field);
  }

  /** The addresses whose traffic is taken, and a word on what is not. */
  captured(
    vips: readonly IpAddress[],
    hosts: readonly Hostname[],
    binding: Binding,
  ): readonly IpAddress[] {
    const { resolution } = this.#entry;
    const missed = (field: string, message: string): void =>
      void this.notes.push({ reason: 'NotCaptured', field, message });
    const [first, ...others] = hosts;
    if (first === undefined) return [];
    if (vips.length === 0) {
      missed(
        'spec.addresses',
        'has none that can be captured: it is reached by name through a waypoint, and by routes that name it',
      );
    } else if (others.length > 0) {
      missed(
        'spec.hosts',
        `the addresses are ${first}'s; the other hosts are reached by name only`,
      );
    }
    if (resolution !== 'none' && resolution !== 'static' && binding.kind === 'none') {
      if (vips.length > 0)
        missed('spec.resolution', 'names are resolved by waypoints; bind it to one');
      return [];
    }
    if (resolution === 'none' && vips.length > 1 && binding.kind !== 'none') {
      missed(
        'spec.resolution',
        'NONE with several addresses cannot pass a waypoint; use STATIC, or one entry for each address',
      );
    }
    return vips;
  }

  #among(what: Hostname | IpAddress, field: string): boolean {
    const { key, meta } = this.#entry;
    const older = (namespace?: string) => {
      const first = this.#world.firstOf(what, { namespace, except: key });
      return first !== undefined && isOlder(first, { key, createdAtMs: meta.createdAtMs })
        ? first
        : undefined;
    };
    const own = older(meta.namespace);
    if (own !== undefined)
      return this.#refused(field, `${what} is ServiceEntry ${own.key}'s, which is older`);
    if (!isPublic(this.#entry)) return true;
    const foreign = older();
    if (foreign !== undefined) {
      this.scoped = true;
      this.#refused(
        field,
        `${what} is ServiceEntry ${foreign.key}'s, which is older: this one holds for clients of namespace ` +
          `${this.#entry.meta.namespace} only`,
      );
    }
    return true;
  }

  #refused(field: string, message: string): false {
    this.notes.push({ reason: 'Conflict', field, message });
    return false;
  }
}

import type { HttpRoute, Port, ServiceKey, TcpRoute, TlsRoute } from '@ambit/api';
import { noChanges, serviceKey } from '@ambit/api';

import type { VirtualServiceRecord } from '../kube/decode/configuration.ts';
import type { Problem, Report } from '../kube/decode/fields.ts';
import { field, list, objectKey, texts } from '../kube/decode/fields.ts';
import type { VirtualServiceSpec } from '../resources/virtual-service.ts';
import { leftOut } from './delegation-limit.ts';
import { exportedToOf } from './export-to.ts';
import { hostnameOf, meant } from './istio-host.ts';
import { closedRoute, compileHttp } from './virtual-service-http.ts';
import { compileTcp, compileTls } from './virtual-service-l4.ts';
import { forMesh } from './virtual-service-match.ts';
import type { VirtualServiceWorld } from './virtual-service-world.ts';
import type { Hosts } from './wildcard-host.ts';
import { wildcardEnding } from './wildcard-host.ts';

export type { VirtualServiceWorld } from './virtual-service-world.ts';

export interface CompiledVirtualService {
  readonly key: string;
  readonly namespace: string;
  readonly createdAtMs: number;
  /** `exportTo`: the namespaces that may use it, `*` for all of them. */
  readonly exportedTo: readonly string[];
  /** The services whose traffic it routes. */
  readonly services: readonly ServiceKey[];
  /** And what the hosts of others end with, that its wildcards cover. */
  readonly endings: readonly string[];
  readonly http: readonly HttpRoute[];
  readonly tls: readonly TlsRoute[];
  readonly tcp: readonly TcpRoute[];
  readonly problems: readonly Problem[];
}

/** VirtualService as Istio defines it, for mesh traffic. What is wrong is told, and answers 500 where it is asked. */
export function compileVirtualService(
  record: VirtualServiceRecord,
  world: VirtualServiceWorld,
): CompiledVirtualService {
  const { meta } = record;
  const problems: Problem[] = [...record.problems];
  const object = `VirtualService ${objectKey(meta)}`;
  const report: Report = (field, message, admissible) => {
    problems.push({ object, field, message, ...(admissible && { admissible }) });
  };
  const common = { key: objectKey(meta), namespace: meta.namespace, createdAtMs: meta.createdAtMs };
  const nothing = {
    ...common,
    exportedTo: [],
    services: [],
    endings: [],
    http: [],
    tls: [],
    tcp: [],
    problems,
  };
  if (!record.spec.ok) {
    const raw = record.spec.error;
    if (!forMesh(wholeList(field(raw, 'gateways')))) return nothing;
    report('spec', 'cannot be read: what goes to its hosts is refused until it can');
    const hosts = [...texts(field(raw, 'hosts'))];
    const { services, endings } = hostsOf({ hosts }, meta.namespace, world, report);
    return {
      ...common,
      exportedTo: exportedToOf(wholeList(field(raw, 'exportTo')), meta.namespace, () => undefined),
      services,
      endings,
      ...closedRoutes(object.replace(' ', '/'), raw),
      problems,
    };
  }
  const spec = record.spec.value;
  const exportedTo = exportedToOf(spec.exportTo, meta.namespace, report);
  const { ports, isSeen, ...hosts } = hostsOf(spec, meta.namespace, world, report);
  if (!forMesh(spec.gateways)) {
    const why = 'names no mesh, and Gateways of Istio are not there yet; add mesh';
    report('spec.gateways', why, true);
    return nothing;
  }
  const name = object.replace(' ', '/');
  const { namespace } = meta;
  if (!hasRoutes(spec)) report('spec', 'must have routes: add http, tls or tcp; nothing is routed');
  if ((spec.http ?? []).length > 0 && hosts.endings.length === 0 && ports.size > 0 && !isSeen) {
    const why = 'no port of the hosts carries HTTP, as their names and appProtocol say';
    report(
      'spec.http',
      `${why}: no request is routed; use tcp or tls, or name the port http`,
      true,
    );
  }
  const arrivals = hosts.endings.length > 0 || ports.size === 0 ? undefined : [...ports];
  const parts = { namespace, world, arrivals, report };
  return {
    ...common,
    exportedTo,
    ...hosts,
    http: compileHttp(spec.http ?? [], { ...parts, name }),
    tls: compileTls(spec.tls ?? [], name, parts),
    tcp: compileTcp(spec.tcp ?? [], name, parts),
    problems,
  };
}

function hasRoutes({ http = [], tls = [], tcp = [] }: VirtualServiceSpec): boolean {
  return http.length + tls.length + tcp.length > 0;
}

/**
 * One without hosts holds for nobody by itself: it is compiled into the ones that name it. What is wrong with it is told
 * on its own status as well, and that nobody names it.
 */
export function compileDelegate(
  { meta, spec, problems }: VirtualServiceRecord,
  world: VirtualServiceWorld,
  roots: readonly VirtualServiceRecord[],
): CompiledVirtualService {
  const told = [...problems];
  const object = `VirtualService ${objectKey(meta)}`;
  const report: Report = (at, message, admissible) => {
    told.push({ object, field: at, message, ...(admissible && { admissible }) });
  };
  const { namespace } = meta;
  const { exportTo, http = [], tls, tcp } = spec.ok ? spec.value : {};
  if (roots.length === 0) {
    report(
      'spec.hosts',
      'is empty, and no VirtualService delegates to this one: it routes nothing',
      true,
    );
  }
  if (spec.ok && http.length === 0) report('spec.http', 'is empty: a delegate has http routes');
  for (const [name, routes] of [
    ['tls', tls],
    ['tcp', tcp],
  ] as const) {
    if (routes === undefined) continue;
    report(`spec.${name}`, 'is not used, because this is a delegate: it has no hosts', true);
  }
  tellLeftOut(objectKey(meta), roots, world, report);
  const name = object.replace(' ', '/');
  // Only for what it tells: on which ports requests come, and what else they match, its roots know.
  compileHttp(http, {
    namespace,
    name,
    world,
    report,
    arrivals: undefined,
    root: { spec: {}, matches: [], namespace },
  });
  return {
    key: objectKey(meta),
    namespace,
    createdAtMs: meta.createdAtMs,
    exportedTo: exportedToOf(exportTo, namespace, report),
    services: [],
    endings: [],
    http: [],
    tls: [],
    tcp: [],
    problems: told,
  };
}

function tellLeftOut(
  delegate: string,
  roots: readonly VirtualServiceRecord[],
  world: VirtualServiceWorld,
  report: Report,
): void {
  const read = (namespace: string, name: string) => {
    const found = world.delegate(namespace, name);
    return found?.spec.ok === true ? found.spec.value.http : undefined;
  };
  for (const { meta, spec } of roots) {
    const http = spec.ok ? (spec.value.http ?? []) : [];
    const why = leftOut({ namespace: meta.namespace, http }, delegate, read);
    if (why === undefined) continue;
    report('spec.http', `not used by VirtualService ${objectKey(meta)}: ${why}`, true);
    return;
  }
}

/** `<namespace>/<name>` of the VirtualServices to which the routes of one with hosts delegate. */
export function delegatesOf({ meta, spec }: VirtualServiceRecord): readonly string[] {
  if (!spec.ok || (spec.value.hosts ?? []).length === 0) return [];
  const named = (spec.value.http ?? []).flatMap(({ delegate }) =>
    delegate === undefined
      ? []
      : [`${delegate.namespace ?? meta.namespace}/${delegate.name ?? ''}`],
  );
  return [...new Set(named)];
}

/** A list of texts; undefined, which leaves nobody out, where a part of it cannot be read. */
function wholeList(raw: unknown): readonly string[] | undefined {
  const read = texts(raw);
  return read.length === list(raw).length ? read : undefined;
}

/** Nobody knows which requests a spec that breaks its schema means to route, so that all of them are refused. */
function closedRoutes(
  name: string,
  raw: unknown,
): Pick<CompiledVirtualService, 'http' | 'tls' | 'tcp'> {
  const why = 'the VirtualService cannot be read; see its status';
  const target = { kind: 'missing', why } as const;
  const targets = [{ weight: 100, target, request: noChanges, response: noChanges }];
  const any = { sourceLabels: [], destinationSubnets: [] };
  return {
    http: [closedRoute(name, [], why)],
    tls:
      field(raw, 'tls') === undefined
        ? []
        : [{ name, matches: [{ ...any, sniHosts: [] }], targets }],
    tcp: field(raw, 'tcp') === undefined ? [] : [{ name, matches: [any], targets }],
  };
}

interface KnownHosts extends Hosts {
  /** Of the services that are known. */
  readonly ports: ReadonlySet<Port>;
  /** Whether one of them may carry HTTP. */
  readonly isSeen: boolean;
}

/** Istio refuses a host that is there twice as the same text only. */
function isOtherText(hosts: readonly string[], index: number, host: string): true | undefined {
  return hosts.indexOf(host) === index ? true : undefined;
}

function hostsOf(
  spec: Pick<VirtualServiceSpec, 'hosts'>,
  namespace: string,
  world: VirtualServiceWorld,
  report: Report,
): KnownHosts {
  const services: ServiceKey[] = [];
  const ports = new Set<Port>();
  let isSeen = false;
  const endings = new Set<string>();
  const hosts = spec.hosts ?? [];
  for (const [index, host] of hosts.entries()) {
    const ending = wildcardEnding(host);
    if (ending !== undefined) endings.add(ending);
    const service = meant(host, namespace, world);
    if (service === undefined && ending !== undefined) continue;
    const own = service && world.ports(service);
    if (service === undefined || own === undefined) {
      report(
        `spec.hosts[${index}]`,
        `${JSON.stringify(host)} is no Service of this cluster and no host of a ServiceEntry`,
        true,
      );
      continue;
    }
    const unseen = world.unseen?.(service) ?? [];
    for (const port of own) {
      ports.add(port);
      if (!unseen.includes(port)) isSeen = true;
    }
    const key = serviceKey(service.namespace, hostnameOf(service, world.clusterDomain));
    const instead = world.insteadOf(key);
    if (instead !== undefined) {
      report(
        `spec.hosts[${index}]`,
        `${instead} is attached to ${host} and is used instead; remove one of the two`,
        true,
      );
    }
    if (services.includes(key)) {
      report(
        `spec.hosts[${index}]`,
        `${host} is named twice; remove one`,
        isOtherText(hosts, index, host),
      );
    } else services.push(key);
  }
  return { services, endings: [...endings], ports, isSeen };
}

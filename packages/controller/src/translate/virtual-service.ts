import type {
  HttpAction,
  HttpMatch,
  HttpRoute,
  LabelPairs,
  Mirror,
  NamedMatch,
  Port,
  ServiceKey,
  SourceMatch,
  StringMatch,
  Target,
  TcpMatch,
  TcpRoute,
  TlsRoute,
  WeightedTarget,
} from '@ambit/api';
import { noChanges, parseCidr, parsePort, serviceKey } from '@ambit/api';

import type { VirtualServiceRecord } from '../kube/decode/configuration.ts';
import type { Problem } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import type {
  DestinationSpec,
  HttpMatchSpec,
  HttpRouteSpec,
  StringMatchSpec,
  VirtualServiceSpec,
} from '../resources/virtual-service.ts';
import { combined } from './delegate.ts';
import type { ServiceName } from './istio-host.ts';
import { hostnameOf, serviceOfHost } from './istio-host.ts';
import type { PartsCompiler } from './virtual-service-parts.ts';
import {
  compileCors,
  compileDuration,
  compileFault,
  compileHeaders,
  compileRetry,
} from './virtual-service-parts.ts';

/** What a VirtualService needs to know of the rest of the mesh. */
export interface VirtualServiceWorld {
  readonly clusterDomain: string;
  readonly rootNamespace: string;
  /** The ports of a Service; undefined when there is none. */
  ports(service: ServiceName): readonly Port[] | undefined;
  /** The names of the subsets that DestinationRules define for it. */
  subsets(service: ServiceName): ReadonlySet<string>;
  delegate(namespace: string, name: string): VirtualServiceRecord | undefined;
  /** What is wrong with a regular expression of RE2, if anything. */
  regexProblem(pattern: string): string | undefined;
  /** The route of the Gateway API that is heard instead for a service, if there is one. */
  insteadOf(service: ServiceKey): string | undefined;
}

export interface CompiledVirtualService {
  readonly key: string;
  readonly namespace: string;
  readonly createdAtMs: number;
  /** The services whose traffic it routes. */
  readonly services: readonly ServiceKey[];
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
  const report = (field: string, message: string): void => {
    problems.push({ object, field, message });
  };
  const common = { key: objectKey(meta), namespace: meta.namespace, createdAtMs: meta.createdAtMs };
  const nothing = { ...common, services: [], http: [], tls: [], tcp: [], problems };
  if (!record.spec.ok) return nothing;
  const spec = record.spec.value;
  const services = servicesOf(spec, meta.namespace, world, report);
  if (!forMesh(spec.gateways)) {
    report('spec.gateways', 'names no mesh, and Gateways of Istio are not there yet; add mesh');
    return nothing;
  }
  const compiler = new Compiler(meta.namespace, object.replace(' ', '/'), world, report);
  return {
    ...common,
    services,
    http: compiler.http(spec.http ?? [], 'spec.http'),
    tls: compiler.tls(spec.tls ?? []),
    tcp: compiler.tcp(spec.tcp ?? []),
    problems,
  };
}

function forMesh(gateways: readonly string[] | undefined): boolean {
  return gateways === undefined || gateways.length === 0 || gateways.includes('mesh');
}

function servicesOf(
  spec: VirtualServiceSpec,
  namespace: string,
  world: VirtualServiceWorld,
  report: Report,
): ServiceKey[] {
  const services: ServiceKey[] = [];
  for (const [index, host] of (spec.hosts ?? []).entries()) {
    const service = serviceOfHost(host, namespace, world.clusterDomain);
    if (service === undefined || world.ports(service) === undefined) {
      report(`spec.hosts[${index}]`, `${JSON.stringify(host)} is no Service of this cluster`);
      continue;
    }
    const key = serviceKey(service.namespace, hostnameOf(service, world.clusterDomain));
    const instead = world.insteadOf(key);
    if (instead !== undefined) {
      report(
        `spec.hosts[${index}]`,
        `${instead} is attached to ${host} and is used instead; remove one of the two`,
      );
    }
    services.push(key);
  }
  return services;
}

type Report = (field: string, message: string) => void;

class Compiler {
  readonly #namespace: string;
  readonly #name: string;
  readonly #world: VirtualServiceWorld;
  readonly #report: Report;
  readonly #depth: number;
  readonly #parts: PartsCompiler;

  constructor(
    namespace: string,
    name: string,
    world: VirtualServiceWorld,
    report: Report,
    depth = 0,
  ) {
    this.#namespace = namespace;
    this.#name = name;
    this.#world = world;
    this.#report = report;
    this.#depth = depth;
    this.#parts = { report, stringMatch: (spec, path) => this.#stringMatch(spec, path) };
  }

  http(routes: readonly HttpRouteSpec[], path: string): HttpRoute[] {
    return routes.flatMap((route, index) => this.#httpRoute(route, `${path}[${index}]`));
  }

  #httpRoute(spec: HttpRouteSpec, path: string): readonly HttpRoute[] {
    const matches = this.#httpMatches(spec, path);
    // Every match is for gateways other than the mesh: the route is none of ours.
    if (matches === undefined) return [];
    if (spec.delegate !== undefined) return this.#delegated(spec, matches, path);
    const timeoutMs = compileDuration(spec.timeout, `${path}.timeout`, this.#parts);
    const retry = compileRetry(spec, path, this.#parts);
    const cors = compileCors(spec, path, this.#parts);
    const { request, response } = compileHeaders(spec.headers);
    return [
      {
        name: spec.name === undefined ? this.#name : `${this.#name}/${spec.name}`,
        matches,
        action: this.#action(spec, matches, path),
        request,
        response,
        ...(timeoutMs === undefined || timeoutMs === 0 ? {} : { timeoutMs }),
        ...(retry === undefined ? {} : { retry }),
        fault: compileFault(spec, path, this.#parts),
        mirrors: this.#mirrors(spec, path),
        ...(cors === undefined ? {} : { cors }),
      },
    ];
  }

  #delegated(spec: HttpRouteSpec, matches: readonly HttpMatch[], path: string): HttpRoute[] {
    const { name = '', namespace = this.#namespace } = spec.delegate ?? {};
    const record = this.#world.delegate(namespace, name);
    const at = `${path}.delegate`;
    if (this.#depth > 0) {
      this.#report(at, 'a delegate may not delegate again');
      return [];
    }
    if (record === undefined || !record.spec.ok) {
      this.#report(at, `there is no readable VirtualService ${namespace}/${name}`);
      return [];
    }
    if ((record.spec.value.hosts ?? []).length > 0) {
      this.#report(at, `VirtualService ${namespace}/${name} has hosts; a delegate has none`);
      return [];
    }
    const inner = new Compiler(
      namespace,
      `VirtualService/${namespace}/${name}`,
      this.#world,
      (field, message) => this.#report(at, `${namespace}/${name}: ${field}: ${message}`),
      this.#depth + 1,
    );
    return inner.http(record.spec.value.http ?? [], 'spec.http').flatMap((route) => {
      const both = combined(matches, route.matches);
      return both.length === 0 && (matches.length > 0 || route.matches.length > 0)
        ? []
        : [{ ...route, matches: both }];
    });
  }

  #httpMatches(spec: HttpRouteSpec, path: string): readonly HttpMatch[] | undefined {
    const written = spec.match ?? [];
    const ours = written.filter((one) => forMesh(one.gateways));
    if (written.length > 0 && ours.length === 0) return undefined;
    return ours.flatMap((one, index) => this.#httpMatch(one, `${path}.match[${index}]`) ?? []);
  }

  /** Undefined for a match that cannot be understood: it never matches. */
  #httpMatch(spec: HttpMatchSpec, path: string): HttpMatch | undefined {
    const source = this.#source(spec, path);
    let bad = source === undefined;
    const one = (match: StringMatchSpec | undefined, field: string): StringMatch | undefined => {
      if (match === undefined) return undefined;
      const made = this.#stringMatch(match, `${path}.${field}`);
      if (made === undefined) bad = true;
      return made;
    };
    const named = (
      matches: Readonly<Record<string, StringMatchSpec>> | undefined,
      field: string,
      lower: boolean,
    ): NamedMatch[] =>
      Object.entries(matches ?? {}).flatMap(([name, match]) => {
        // An empty match asks only whether the header is there.
        const made: StringMatch | undefined =
          Object.keys(match).length === 0 ? { kind: 'present' } : one(match, `${field}[${name}]`);
        return made === undefined ? [] : [{ name: lower ? name.toLowerCase() : name, match: made }];
      });
    const uri = one(spec.uri, 'uri');
    const scheme = one(spec.scheme, 'scheme');
    const method = one(spec.method, 'method');
    const authority = one(spec.authority, 'authority');
    const match = {
      sourceLabels: source?.sourceLabels ?? [],
      ...(source ?? {}),
      ...(uri === undefined ? {} : { path: uri }),
      ignorePathCase: spec.ignoreUriCase ?? false,
      ...(scheme === undefined ? {} : { scheme }),
      ...(method === undefined ? {} : { method }),
      ...(authority === undefined ? {} : { authority }),
      headers: named(spec.headers, 'headers', true),
      withoutHeaders: named(spec.withoutHeaders, 'withoutHeaders', true),
      query: named(spec.queryParams, 'queryParams', false),
    };
    return bad ? undefined : match;
  }

  #source(
    spec: {
      readonly port?: number;
      readonly sourceLabels?: Readonly<Record<string, string>>;
      readonly sourceNamespace?: string;
    },
    path: string,
  ): SourceMatch | undefined {
    const sourceLabels: LabelPairs = Object.entries(spec.sourceLabels ?? {});
    const port = spec.port === undefined ? undefined : parsePort(spec.port);
    if (port?.ok === false) {
      this.#report(`${path}.port`, port.error.message);
      return undefined;
    }
    return {
      sourceLabels,
      ...(spec.sourceNamespace === undefined ? {} : { sourceNamespace: spec.sourceNamespace }),
      ...(port === undefined ? {} : { port: port.value }),
    };
  }

  #stringMatch(spec: StringMatchSpec, path: string): StringMatch | undefined {
    const given = Object.entries(spec);
    const [only] = given;
    if (only === undefined || given.length > 1) {
      this.#report(path, 'needs exactly one of exact, prefix and regex');
      return undefined;
    }
    const [kind, value] = only as ['exact' | 'prefix' | 'regex', string];
    if (kind !== 'regex') return { kind, value };
    const problem = this.#world.regexProblem(value);
    if (problem === undefined) return { kind, value };
    this.#report(`${path}.regex`, `is no regular expression of RE2: ${problem}`);
    return undefined;
  }

  #action(spec: HttpRouteSpec, matches: readonly HttpMatch[], path: string): HttpAction {
    if (spec.redirect !== undefined) return this.#redirect(spec.redirect, path);
    if (spec.directResponse !== undefined) {
      const { status = 0, body } = spec.directResponse;
      if (status < 200 || status > 599)
        this.#report(`${path}.directResponse.status`, 'must be 200 to 599');
      const text = body?.string ?? Buffer.from(body?.bytes ?? '', 'base64').toString('latin1');
      return {
        kind: 'respond',
        status: status < 200 || status > 599 ? 500 : status,
        body: text,
        contentType: 'text/plain',
      };
    }
    const targets = (spec.route ?? []).map((one, index): WeightedTarget => {
      const at = `${path}.route[${index}]`;
      const only = (spec.route ?? []).length === 1;
      return {
        weight: only && one.weight === undefined ? 100 : (one.weight ?? 0),
        target: this.#target(one.destination, `${at}.destination`),
        ...compileHeaders(one.headers),
      };
    });
    if (targets.length === 0)
      this.#report(
        `${path}.route`,
        'there is nothing to do: add a route, redirect or directResponse',
      );
    else if (targets.every(({ weight }) => weight === 0))
      this.#report(`${path}.route`, 'the weights sum to 0; requests are answered 500');
    return { kind: 'forward', targets, rewrite: this.#rewrite(spec, matches) };
  }

  #redirect(spec: NonNullable<HttpRouteSpec['redirect']>, path: string): HttpAction {
    const port = spec.port === undefined ? undefined : parsePort(spec.port);
    if (port?.ok === false) this.#report(`${path}.redirect.port`, port.error.message);
    const status = spec.redirectCode ?? 301;
    const known = [301, 302, 303, 307, 308].includes(status);
    if (!known) this.#report(`${path}.redirect.redirectCode`, 'must be 301, 302, 303, 307 or 308');
    return {
      kind: 'redirect',
      redirect: {
        ...(spec.scheme === undefined ? {} : { scheme: spec.scheme }),
        ...(spec.authority === undefined ? {} : { authority: spec.authority }),
        ...(port?.ok === true ? { port: port.value } : {}),
        ...(spec.derivePort === undefined
          ? {}
          : ({
              derivePort:
                spec.derivePort === 'FROM_REQUEST_PORT' ? 'from-request' : 'from-protocol',
            } as const)),
        ...(spec.uri === undefined ? {} : ({ path: { kind: 'full', value: spec.uri } } as const)),
        status: known ? status : 301,
      },
    };
  }

  #rewrite(
    spec: HttpRouteSpec,
    matches: readonly HttpMatch[],
  ): Extract<HttpAction, { kind: 'forward' }>['rewrite'] {
    const { rewrite } = spec;
    if (rewrite === undefined) return {};
    const authority = rewrite.authority === undefined ? {} : { authority: rewrite.authority };
    if (rewrite.uriRegexRewrite !== undefined) {
      const { match = '', rewrite: replacement = '' } = rewrite.uriRegexRewrite;
      const problem = this.#world.regexProblem(match);
      if (problem !== undefined) this.#report('spec.http[].rewrite.uriRegexRewrite.match', problem);
      else return { ...authority, path: { kind: 'regex', match, rewrite: replacement } };
    }
    if (rewrite.uri === undefined) return authority;
    const [first] = matches;
    const matched = first?.path?.kind === 'prefix' ? first.path.value : undefined;
    return {
      ...authority,
      path:
        matched === undefined
          ? { kind: 'full', value: rewrite.uri }
          : { kind: 'prefix', matched, value: rewrite.uri },
    };
  }

  #target(destination: DestinationSpec | undefined, path: string): Target {
    const host = destination?.host ?? '';
    const service = serviceOfHost(host, this.#namespace, this.#world.clusterDomain);
    const ports = service && this.#world.ports(service);
    if (service === undefined || ports === undefined) {
      const why = `${JSON.stringify(host)} is no Service of this cluster`;
      this.#report(`${path}.host`, `${why}; requests are answered 500`);
      return { kind: 'missing', why };
    }
    const port = this.#port(destination, ports, path);
    if (typeof port === 'string') return { kind: 'missing', why: port };
    const subset = destination?.subset;
    if (subset !== undefined && !this.#world.subsets(service).has(subset)) {
      this.#report(
        `${path}.subset`,
        `no DestinationRule defines subset ${JSON.stringify(subset)}; requests are answered 503`,
      );
    }
    return {
      kind: 'service',
      service: serviceKey(service.namespace, hostnameOf(service, this.#world.clusterDomain)),
      port,
      ...(subset === undefined ? {} : { subset }),
    };
  }

  /** The port that is meant, or why none is. */
  #port(
    destination: DestinationSpec | undefined,
    ports: readonly Port[],
    path: string,
  ): Port | string {
    const number = destination?.port?.number ?? (ports.length === 1 ? ports[0] : undefined);
    const port = ports.find((one) => one === number);
    if (port !== undefined) return port;
    const why =
      number === undefined
        ? 'the Service has several ports, name one'
        : `the Service has no port ${number}`;
    this.#report(`${path}.port.number`, `${why}; requests are answered 500`);
    return why;
  }

  #mirrors(spec: HttpRouteSpec, path: string): Mirror[] {
    const share = spec.mirrorPercentage?.value ?? spec.mirrorPercent ?? spec.mirror_percent ?? 100;
    const one =
      spec.mirror === undefined
        ? []
        : [{ target: this.#target(spec.mirror, `${path}.mirror`), percentage: share }];
    const more = (spec.mirrors ?? []).map((mirror, index) => ({
      target: this.#target(mirror.destination, `${path}.mirrors[${index}].destination`),
      percentage: mirror.percentage?.value ?? 100,
    }));
    return [...one, ...more];
  }

  tls(routes: NonNullable<VirtualServiceSpec['tls']>): TlsRoute[] {
    return routes.map((route, index) => ({
      name: this.#name,
      matches: (route.match ?? []).flatMap((match, at) => {
        const l4 = this.#l4(match, `spec.tls[${index}].match[${at}]`);
        const sniHosts = (match.sniHosts ?? []).map((host) => host.toLowerCase());
        return l4 === undefined ? [] : [{ ...l4, sniHosts }];
      }),
      targets: this.#l4Targets(route.route, `spec.tls[${index}].route`),
    }));
  }

  tcp(routes: NonNullable<VirtualServiceSpec['tcp']>): TcpRoute[] {
    return routes.map((route, index) => ({
      name: this.#name,
      matches: (route.match ?? []).flatMap(
        (match, at) => this.#l4(match, `spec.tcp[${index}].match[${at}]`) ?? [],
      ),
      targets: this.#l4Targets(route.route, `spec.tcp[${index}].route`),
    }));
  }

  #l4(spec: L4MatchSpec, path: string): TcpMatch | undefined {
    if (!forMesh(spec.gateways)) return undefined;
    const source = this.#source(spec, path);
    const destinationSubnets = (spec.destinationSubnets ?? []).map((text, index) => {
      const cidr = parseCidr(text);
      if (!cidr.ok) this.#report(`${path}.destinationSubnets[${index}]`, cidr.error.message);
      return cidr;
    });
    const good = destinationSubnets.flatMap((cidr) => (cidr.ok ? [cidr.value] : []));
    if (source === undefined || good.length < destinationSubnets.length) return undefined;
    return { ...source, destinationSubnets: good };
  }

  #l4Targets(
    routes:
      readonly { readonly destination?: DestinationSpec; readonly weight?: number }[] | undefined,
    path: string,
  ): WeightedTarget[] {
    return (routes ?? []).map(({ destination, weight }, index) => ({
      weight: weight ?? ((routes ?? []).length === 1 ? 100 : 0),
      target: this.#target(destination, `${path}[${index}].destination`),
      request: noChanges,
      response: noChanges,
    }));
  }
}

interface L4MatchSpec {
  readonly port?: number;
  readonly sourceLabels?: Readonly<Record<string, string>>;
  readonly sourceNamespace?: string;
  readonly destinationSubnets?: readonly string[];
  readonly gateways?: readonly string[];
}

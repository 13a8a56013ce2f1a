import type { HttpMatch, HttpRoute, Mirror, Port } from '@ambit/api';
import { noChanges } from '@ambit/api';

import type { Report } from '../kube/decode/fields.ts';
import type { DestinationSpec, HttpRouteSpec } from '../resources/virtual-service.ts';
import { combined } from './delegate.ts';
import type { DelegationBudget } from './delegation-limit.ts';
import { delegationBudget, spend } from './delegation-limit.ts';
import { exportedToOf, isExportedTo } from './export-to.ts';
import { arrivalsOf } from './open-port.ts';
import type { ActionWorld, MatchedPath } from './virtual-service-action.ts';
import {
  closedAction,
  compileAction,
  compileRewrite,
  compileTarget,
} from './virtual-service-action.ts';
import { tellIdle } from './virtual-service-idle.ts';
import type { ReadMatch } from './virtual-service-match.ts';
import { forMesh, readHttpMatch, readStringMatch } from './virtual-service-match.ts';
import {
  compileCors,
  compileDuration,
  compileFault,
  compileHeaders,
  compileRetry,
} from './virtual-service-parts.ts';
import type { VirtualServiceWorld } from './virtual-service-world.ts';

/** What one list of routes is compiled with. */
export interface HttpCompilation {
  readonly namespace: string;
  /** `<kind>/<namespace>/<name>` of the resource. */
  readonly name: string;
  readonly world: VirtualServiceWorld;
  readonly report: Report;
  /** The ports on which requests to the hosts can come; any where undefined. */
  readonly arrivals: readonly Port[] | undefined;
  /** Of the route that delegates, when these are a delegate's. */
  readonly root?: {
    readonly spec: HttpRouteSpec;
    readonly matches: readonly ReadMatch[];
    readonly namespace: string;
  };
}

/** What may still be made of delegates by one list of routes. */
interface Budgeted extends HttpCompilation {
  readonly budget: DelegationBudget;
}

export function compileHttp(specs: readonly HttpRouteSpec[], given: HttpCompilation): HttpRoute[] {
  const compilation = { ...given, budget: delegationBudget() };
  return specs.flatMap((spec, index) => compileRoute(spec, `spec.http[${index}]`, compilation));
}

function compileRoute(
  own: HttpRouteSpec,
  path: string,
  compilation: Budgeted,
): readonly HttpRoute[] {
  const { root } = compilation;
  tellIdle(own, path, compilation.report);
  const spec = root === undefined ? own : inherited(root, own);
  const matches = matchesOf(spec, path, compilation);
  // Every match is for gateways other than the mesh, or clashes with those of the root: the route is none of ours.
  if (matches === undefined) return [];
  if (spec.delegate !== undefined) return delegated(spec, matches, path, compilation);
  const contradicts = [own, root?.spec].some((one) => one !== undefined && mirrorsTwice(one));
  return routesOf(spec, matches, path, compilation, contradicts);
}

/** Of a route as it is written. As in Istio a delegate with the one and its root with the other mirror to both. */
function mirrorsTwice({ mirror, mirrors = [] }: HttpRouteSpec): boolean {
  return mirror !== undefined && mirrors.length > 0;
}

/** As in Istio: what a delegate does not say, its root says for it. */
function inherited(
  { spec: root, namespace }: NonNullable<HttpCompilation['root']>,
  own: HttpRouteSpec,
): HttpRouteSpec {
  const { mirror, mirrors } = root;
  const rest = Object.fromEntries(
    Object.entries(root).filter(([field]) => field !== 'match' && field !== 'delegate'),
  );
  const name = [root.name, own.name].filter((one) => one !== undefined).join('-');
  return {
    ...rest,
    ...(mirror && { mirror: absolute(mirror, namespace) }),
    ...(mirrors && {
      mirrors: mirrors.map(({ destination, ...one }) => ({
        ...one,
        ...(destination && { destination: absolute(destination, namespace) }),
      })),
    }),
    ...own,
    ...(name === '' ? {} : { name }),
  };
}

/** A short name is a Service of the namespace of who wrote it. */
function absolute(destination: DestinationSpec, namespace: string): DestinationSpec {
  const { host } = destination;
  if (host === undefined || host === '' || host.includes('.')) return destination;
  return { ...destination, host: `${host}.${namespace}` };
}

function matchesOf(
  spec: HttpRouteSpec,
  path: string,
  { world, report, root }: HttpCompilation,
): readonly ReadMatch[] | undefined {
  const written = spec.match ?? [];
  const reader = { report, world };
  const own = written.flatMap((one, index) =>
    forMesh(one.gateways) ? [readHttpMatch(one, `${path}.match[${index}]`, reader)] : [],
  );
  if (written.length > 0 && own.length === 0) return undefined;
  if (root === undefined) return own;
  const both = combined(root.matches, own);
  if (both.length > 0 || (root.matches.length === 0 && own.length === 0)) return both;
  report(`${path}.match`, 'clashes with the match of the route that delegates; it never holds');
  return undefined;
}

function delegated(
  spec: HttpRouteSpec,
  matches: readonly ReadMatch[],
  path: string,
  compilation: Budgeted,
): readonly HttpRoute[] {
  const { world, report, root, namespace: own } = compilation;
  const { name = '', namespace = own } = spec.delegate ?? {};
  const at = `${path}.delegate`;
  const closed = (why: string, admissible?: true): readonly HttpRoute[] => {
    report(at, `${why}; requests are answered 500`, admissible);
    return closedRoutes(nameOf(spec, compilation), matches, why);
  };
  // It is a delegate because of what others say, or do not say.
  if (root !== undefined) return closed('a delegate may not delegate again', true);
  const beside = (['route', 'redirect', 'directResponse'] as const).find(
    (one) => spec[one] !== undefined,
  );
  if (beside !== undefined) return closed(`cannot be combined with ${beside}`);
  const record = world.delegate(namespace, name);
  if (record === undefined || !record.spec.ok) {
    return closed(`there is no readable VirtualService ${namespace}/${name}`, true);
  }
  const { hosts = [], http = [], tls, tcp, exportTo } = record.spec.value;
  // What is wrong with the values is told on the delegate itself.
  if (
    !isExportedTo(
      exportedToOf(exportTo, namespace, () => undefined),
      own,
    )
  ) {
    return closed(`VirtualService ${namespace}/${name} is not exported to namespace ${own}`, true);
  }
  if (hosts.length > 0) {
    return closed(`VirtualService ${namespace}/${name} has hosts; a delegate has none`, true);
  }
  const tooMuch = spend(compilation.budget, spec, http);
  if (tooMuch !== undefined) return closed(`VirtualService ${namespace}/${name}: ${tooMuch}`, true);
  if (tls !== undefined || tcp !== undefined) {
    const why = 'tls and tcp routes of a delegate are not used; remove them';
    report(at, `${namespace}/${name}: ${why}`, true);
  }
  const routes = compileHttp(http, {
    namespace,
    name: `VirtualService/${namespace}/${name}`,
    world,
    report: (field, message) => report(at, `${namespace}/${name}: ${field}: ${message}`, true),
    arrivals: compilation.arrivals,
    root: { spec, matches, namespace: own },
  });
  return routes.map((route) => ({ ...route, object: compilation.name }));
}

function nameOf(spec: HttpRouteSpec, { name }: HttpCompilation): string {
  return spec.name === undefined ? name : `${name}/${spec.name}`;
}

function routesOf(
  spec: HttpRouteSpec,
  matches: readonly ReadMatch[],
  path: string,
  compilation: HttpCompilation,
  contradicts: boolean,
): readonly HttpRoute[] {
  const { namespace, world, report } = compilation;
  const broken: string[] = [];
  const close: Report = (field, message) => {
    broken.push(field);
    report(field, `${message}; requests are answered 500`);
  };
  const arrivals = arrivalsOf(
    matches.map(({ match }) => match),
    compilation.arrivals,
  );
  const parts: ActionWorld = { namespace, world, arrivals, report, close };
  const name = nameOf(spec, compilation);
  if (contradicts) close(`${path}.mirrors`, 'cannot be combined with mirror; remove one');
  const action = compileAction(spec, path, parts);
  const rewriteOf = compileRewrite(spec, path, parts);
  const common = { name, ...compileCommon(spec, path, parts) };
  if (broken.length > 0) return closedRoutes(name, matches, 'a part of the route cannot be done');
  const sure = matches.filter(({ unsure }) => !unsure).map(({ match }) => match);
  const unsure = matches.filter((one) => one.unsure);
  const groups =
    matches.length === 0 ? [{ matched: '/', matches: [] }] : groupsByPath(sure, spec.rewrite?.uri);
  const routes = groups.map((group) => ({
    ...common,
    matches: group.matches,
    action: action.kind === 'forward' ? { ...action, rewrite: rewriteOf(group.matched) } : action,
  }));
  if (unsure.length === 0) return routes;
  return [...routes, ...closedRoutes(name, unsure, 'a part of the match cannot be understood')];
}

/** What a route has whatever it does. */
function compileCommon(
  spec: HttpRouteSpec,
  path: string,
  parts: ActionWorld,
): Omit<HttpRoute, 'name' | 'matches' | 'action'> {
  const { report, close } = parts;
  const reading = {
    report,
    stringMatch: (one: object, at: string) => readStringMatch(one, at, parts),
  };
  const timeoutMs = compileDuration(spec.timeout, `${path}.timeout`, reading);
  const retry = compileRetry(spec, path, reading);
  const cors = compileCors(spec, path, reading);
  return {
    ...compileHeaders(spec.headers, `${path}.headers`, close),
    ...(timeoutMs === undefined || timeoutMs === 0 ? {} : { timeoutMs }),
    ...(retry === undefined ? {} : { retry }),
    fault: compileFault(spec, path, reading),
    mirrors: compileMirrors(spec, path, parts),
    ...(cors === undefined ? {} : { cors }),
  };
}

interface Group {
  readonly matched: MatchedPath;
  readonly matches: HttpMatch[];
}

/** Where a prefix is rewritten, matches of different prefixes are different routes, in the order of the matches. */
function groupsByPath(matches: readonly HttpMatch[], rewrite: string | undefined): Group[] {
  const groups: Group[] = [];
  for (const match of matches) {
    const matched = rewrite === undefined ? '/' : matchedPath(match);
    const last = groups.at(-1);
    if (last !== undefined && last.matched === matched) last.matches.push(match);
    else groups.push({ matched, matches: [match] });
  }
  return groups;
}

function matchedPath({ path }: HttpMatch): MatchedPath {
  if (path === undefined) return '/';
  return path.kind === 'prefix' ? path.value : undefined;
}

function closedRoutes(name: string, matches: readonly ReadMatch[], why: string): HttpRoute[] {
  const of = (isUnsure: boolean): HttpMatch[] =>
    matches.filter(({ unsure }) => unsure === isUnsure).map(({ match }) => match);
  const [sure, unsure] = [of(false), of(true)];
  return [
    ...(sure.length === 0 && unsure.length > 0 ? [] : [closedRoute(name, sure, why)]),
    ...(unsure.length === 0 ? [] : [{ ...closedRoute(name, unsure, why), unsure: true }]),
  ];
}

export function closedRoute(name: string, matches: readonly HttpMatch[], why: string): HttpRoute {
  return {
    name,
    matches,
    action: closedAction(why),
    request: noChanges,
    response: noChanges,
    fault: {},
    mirrors: [],
  };
}

function compileMirrors(spec: HttpRouteSpec, path: string, parts: ActionWorld): Mirror[] {
  const without = 'nothing is mirrored';
  const percentage = (value: number, at: string): number => {
    if (value >= 0 && value <= 100) return value;
    parts.report(at, `must be 0 to 100; ${without}`);
    return 0;
  };
  const share = spec.mirrorPercentage?.value ?? spec.mirrorPercent ?? spec.mirror_percent ?? 100;
  const one: Mirror[] =
    spec.mirror === undefined
      ? []
      : [
          {
            target: compileTarget(spec.mirror, `${path}.mirror`, parts, without),
            percentage: percentage(share, `${path}.mirrorPercentage`),
          },
        ];
  const more = (spec.mirrors ?? []).map((mirror, index): Mirror => {
    const at = `${path}.mirrors[${index}]`;
    return {
      target: compileTarget(mirror.destination, `${at}.destination`, parts, without),
      percentage: percentage(mirror.percentage?.value ?? 100, `${at}.percentage`),
    };
  });
  return [...one, ...more];
}

import { isUtf8 } from 'node:buffer';

import type {
  HttpAction,
  Port,
  Redirect,
  Rewrite,
  ServiceKey,
  Target,
  WeightedTarget,
} from '@ambit/api';
import { noChanges, parsePort, serviceKey } from '@ambit/api';

import type { Report } from '../kube/decode/fields.ts';
import type { DestinationSpec, HttpRouteSpec } from '../resources/virtual-service.ts';
import { hostnameOf, meant } from './istio-host.ts';
import type { ServiceTarget } from './open-port.ts';
import { neverFits, openTarget } from './open-port.ts';
import { replacementProblem } from './regex.ts';
import { authorityProblem, uriProblem } from './target-text.ts';
import { compileHeaders } from './virtual-service-parts.ts';
import type { VirtualServiceWorld } from './virtual-service-world.ts';

export interface ActionWorld {
  readonly namespace: string;
  readonly world: VirtualServiceWorld;
  /** The ports on which what is routed can come; any where absent. */
  readonly arrivals?: readonly Port[] | undefined;
  /** What is wrong, where the traffic that it concerns is answered by an error of its own, or not at all. */
  readonly report: Report;
  /** What is wrong with a part without which the route would do something else than was meant: it is closed. */
  readonly close: (field: string, message: string) => void;
}

type Forward = Extract<HttpAction, { kind: 'forward' }>;

/** Answers 500. */
export function closedAction(why: string): Forward {
  const target = { kind: 'missing', why } as const;
  return {
    kind: 'forward',
    targets: [{ weight: 1, target, request: noChanges, response: noChanges }],
    rewrite: {},
  };
}

const actions = ['route', 'redirect', 'directResponse'] as const;

/** What a route does. Its rewrite of a path prefix depends on the match, see `rewriteOf`. */
export function compileAction(spec: HttpRouteSpec, path: string, parts: ActionWorld): HttpAction {
  const named = actions.filter((name) => spec[name] !== undefined);
  if (named.length > 1) {
    parts.close(
      `${path}.${named[1] ?? ''}`,
      `cannot be combined with ${named[0] ?? ''}; remove one`,
    );
  }
  if (spec.redirect !== undefined) return compileRedirect(spec.redirect, path, parts);
  if (spec.directResponse !== undefined) return compileResponse(spec.directResponse, path, parts);
  const routes = spec.route ?? [];
  const targets = routes.map((one, index): WeightedTarget => {
    const at = `${path}.route[${index}]`;
    return {
      weight: weightOf(one.weight, routes.length, at, parts),
      target: compileTarget(
        one.destination,
        `${at}.destination`,
        parts,
        'requests are answered 500',
      ),
      ...compileHeaders(one.headers, `${at}.headers`, parts.close),
    };
  });
  if (targets.length === 0)
    parts.report(
      `${path}.route`,
      'there is nothing to do: add a route, redirect or directResponse',
    );
  else if (targets.every(({ weight }) => weight === 0))
    parts.report(`${path}.route`, 'the weights sum to 0; requests are answered 500');
  return { kind: 'forward', targets, rewrite: {} };
}

export function weightOf(
  written: number | undefined,
  siblings: number,
  path: string,
  { report }: Pick<ActionWorld, 'report'>,
): number {
  if (written !== undefined && written < 0) {
    report(`${path}.weight`, 'must not be less than 0; it counts as 0');
    return 0;
  }
  return written ?? (siblings === 1 ? 100 : 0);
}

function compileResponse(
  { status = 0, body }: NonNullable<HttpRouteSpec['directResponse']>,
  path: string,
  { report, close }: ActionWorld,
): HttpAction {
  const at = `${path}.directResponse`;
  const known = status >= 200 && status <= 599;
  if (!known) report(`${at}.status`, 'must be 200 to 599; requests are answered 500');
  if (body?.string !== undefined && body.bytes !== undefined) {
    close(`${at}.body.bytes`, 'cannot be combined with string; remove one');
  }
  const bytes = body?.bytes ?? '';
  if (!base64Form.test(bytes)) close(`${at}.body.bytes`, 'is no base64');
  return {
    kind: 'respond',
    status: known ? status : 500,
    ...(body?.string === undefined ? bodyOf(Buffer.from(bytes, 'base64')) : { body: body.string }),
    contentType: 'text/plain',
  };
}

/** Of both alphabets, as JSON of protobuf has it. */
const base64Form = /^(?:[A-Za-z0-9+/]*|[A-Za-z0-9_-]*)={0,2}$/;

function bodyOf(bytes: Buffer): { readonly body: string; readonly encoding?: 'base64' } {
  if (isUtf8(bytes)) return { body: bytes.toString() };
  return { body: bytes.toString('base64'), encoding: 'base64' };
}

const redirectCodes: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

function compileRedirect(
  spec: NonNullable<HttpRouteSpec['redirect']>,
  path: string,
  parts: ActionWorld,
): HttpAction {
  const at = `${path}.redirect`;
  const port = spec.port === undefined ? undefined : parsePort(spec.port);
  for (const [field, problem] of redirectProblems(spec)) parts.close(`${at}.${field}`, problem);
  const status = spec.redirectCode ?? 301;
  const known = redirectCodes.has(status);
  if (!known) {
    parts.report(`${at}.redirectCode`, 'must be 301, 302, 303, 307 or 308; it counts as 301');
  }
  const redirect: Redirect = {
    ...(spec.scheme === undefined ? {} : { scheme: spec.scheme }),
    ...(spec.authority === undefined ? {} : { authority: spec.authority }),
    ...(port?.ok === true ? { port: port.value } : {}),
    ...(spec.derivePort === undefined ? {} : { derivePort: derivations[spec.derivePort] }),
    ...(spec.uri === undefined ? {} : ({ path: { kind: 'full', value: spec.uri } } as const)),
    status: known ? status : 301,
  };
  return { kind: 'redirect', redirect };
}

const derivations = {
  FROM_REQUEST_PORT: 'from-request',
  FROM_PROTOCOL_DEFAULT: 'from-protocol',
} as const;

function redirectProblems({
  port,
  derivePort,
  authority,
  uri,
  scheme,
}: NonNullable<HttpRouteSpec['redirect']>): (readonly [field: string, problem: string])[] {
  const bad = port === undefined ? undefined : parsePort(port);
  const twice = port !== undefined && derivePort !== undefined;
  const strange = scheme !== undefined && !/^[a-z][a-z0-9+.-]{0,31}$/.test(scheme);
  const problems: (readonly [string, string | undefined])[] = [
    ['port', bad?.ok === false ? bad.error.message : undefined],
    ['derivePort', twice ? 'cannot be combined with port; remove one' : undefined],
    ['authority', authority && authorityProblem(authority)],
    ['uri', uri && uriProblem(uri)],
    ['scheme', strange ? 'must be a scheme such as https' : undefined],
  ];
  return problems.flatMap(([field, problem]) =>
    problem === undefined || problem === '' ? [] : [[field, problem] as const],
  );
}

/** How a route rewrites what a match found; `matched` is the prefix that the match names. */
export type RewriteOf = (matched: MatchedPath) => Rewrite;
/** The prefix, `/` where the match names no path, and undefined where it names the whole path. */
export type MatchedPath = string | undefined;

export function compileRewrite(spec: HttpRouteSpec, path: string, parts: ActionWorld): RewriteOf {
  const { rewrite } = spec;
  if (rewrite === undefined) return () => ({});
  const at = `${path}.rewrite`;
  const { uri, authority, uriRegexRewrite } = rewrite;
  const problem = authority === undefined ? undefined : authorityProblem(authority);
  if (problem !== undefined) parts.close(`${at}.authority`, problem);
  const always = authority === undefined ? {} : { authority };
  if (uri !== undefined && uriRegexRewrite !== undefined) {
    parts.close(`${at}.uriRegexRewrite`, 'cannot be combined with uri; remove one');
  }
  if (uriRegexRewrite !== undefined) {
    const { match = '', rewrite: replacement = '' } = uriRegexRewrite;
    const wrong = match === '' ? 'must not be empty' : parts.world.regexProblem(match);
    if (wrong !== undefined) parts.close(`${at}.uriRegexRewrite.match`, wrong);
    const bad = replacementProblem(match, replacement);
    if (bad !== undefined) parts.close(`${at}.uriRegexRewrite.rewrite`, bad);
    return () => ({ ...always, path: { kind: 'regex', match, rewrite: replacement } });
  }
  if (uri === undefined) return () => always;
  const bad = uriProblem(uri);
  if (bad !== undefined) parts.close(`${at}.uri`, bad);
  return (matched) => ({
    ...always,
    path:
      matched === undefined
        ? { kind: 'full', value: uri }
        : { kind: 'prefix', matched, value: uri },
  });
}

export function compileTarget(
  destination: DestinationSpec | undefined,
  path: string,
  { namespace, world, arrivals, report }: Omit<ActionWorld, 'close'>,
  consequence: string,
): Target {
  const host = destination?.host ?? '';
  const service = meant(host, namespace, world);
  const ports = service && world.ports(service);
  if (service === undefined || ports === undefined) {
    const why = `${JSON.stringify(host)} is no Service of this cluster and no host of a ServiceEntry`;
    report(`${path}.host`, `${why}; ${consequence}`, true);
    return { kind: 'missing', why };
  }
  const key = serviceKey(service.namespace, hostnameOf(service, world.clusterDomain));
  const target = targetAt(destination, key, ports);
  if (typeof target === 'string') {
    report(`${path}.port.number`, `${target}; ${consequence}`, true);
    return { kind: 'missing', why: target };
  }
  if (neverFits(target, arrivals)) {
    const why = `the Service has several ports (${ports.join(', ')}), and none is one that is routed (${arrivals?.join(', ') ?? ''})`;
    report(`${path}.port.number`, `${why}; name one; ${consequence}`, true);
  }
  const subset = destination?.subset;
  if (subset !== undefined && !world.hasSubset(service, subset)) {
    report(
      `${path}.subset`,
      `no DestinationRule defines subset ${JSON.stringify(subset)}; ${consequence.replace('500', '503')}`,
      true,
    );
  }
  return subset === undefined ? target : { ...target, subset };
}

/** What is meant, or why nothing is. Without a port, of several, it is the one on which the request comes. */
function targetAt(
  destination: DestinationSpec | undefined,
  service: ServiceKey,
  ports: readonly Port[],
): ServiceTarget | string {
  const number = destination?.port?.number ?? (ports.length === 1 ? ports[0] : undefined);
  const port = ports.find((one) => one === number);
  if (port !== undefined) return { kind: 'service', service, port };
  if (number === undefined && ports.length > 1) return openTarget(service, ports);
  return number === undefined ? 'the Service has no ports' : `the Service has no port ${number}`;
}

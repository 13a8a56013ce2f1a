import type {
  CorsPolicy,
  HeaderChanges,
  HttpAction,
  Mirror,
  PathRewrite,
  Redirect,
  Rewrite,
  WeightedTarget,
} from '@ambit/api';
import { noChanges, parsePort } from '@ambit/api';

import type {
  HeaderModifierSpec,
  HttpFilterSpec,
  PathModifierSpec,
  RequestRedirectSpec,
  UrlRewriteSpec,
} from '../resources/gateway-api.ts';
import type { BackendChanges, FilteredBackendRef } from './gateway-backend.ts';
import { compileMirror, noBackendChanges } from './gateway-backend.ts';
import type { Compilation } from './gateway-compilation.ts';
import { compileCors } from './gateway-cors.ts';
import { readHeaderChanges } from './header-changes.ts';
import { authorityProblem, uriProblem } from './target-text.ts';

/** What the filters of a rule come to. Paths are left as written: what they replace depends on the match. */
export interface CompiledFilters {
  readonly request: HeaderChanges;
  readonly response: HeaderChanges;
  readonly mirrors: readonly Mirror[];
  readonly cors: CorsPolicy | undefined;
  readonly redirect: RequestRedirectSpec | undefined;
  readonly rewrite: UrlRewriteSpec | undefined;
  /** The field that replaces a prefix, which only a match on a prefix has. */
  readonly replacesPrefix: string | undefined;
}

type FilterType = HttpFilterSpec['type'];
type BodyName = Exclude<keyof HttpFilterSpec, 'type'>;

const bodies: Readonly<Record<FilterType, BodyName>> = {
  RequestHeaderModifier: 'requestHeaderModifier',
  ResponseHeaderModifier: 'responseHeaderModifier',
  RequestMirror: 'requestMirror',
  RequestRedirect: 'requestRedirect',
  URLRewrite: 'urlRewrite',
  CORS: 'cors',
  ExternalAuth: 'externalAuth',
  ExtensionRef: 'extensionRef',
};
const repeatable: ReadonlySet<FilterType> = new Set(['RequestMirror', 'ExtensionRef']);

type Building = { -readonly [K in keyof CompiledFilters]: CompiledFilters[K] } & {
  mirrors: Mirror[];
};

/** What is refused here closes the rule, because a filter that is skipped lets through what it was to hold. */
export function compileFilters(
  specs: readonly HttpFilterSpec[] | undefined,
  path: string,
  compilation: Compilation,
): CompiledFilters {
  const filters: Building = {
    request: noChanges,
    response: noChanges,
    mirrors: [],
    cors: undefined,
    redirect: undefined,
    rewrite: undefined,
    replacesPrefix: undefined,
  };
  const seen = new Set<FilterType>();
  for (const [index, spec] of (specs ?? []).entries()) {
    const at = `${path}[${index}]`;
    if (seen.has(spec.type) && !repeatable.has(spec.type)) {
      compilation.refuse(
        `${at}.type`,
        `${spec.type} is there twice; join both`,
        'IncompatibleFilters',
      );
    }
    seen.add(spec.type);
    if (isWellFormed(spec, at, compilation)) addFilter(filters, spec, at, compilation);
  }
  if (seen.has('RequestRedirect') && seen.has('URLRewrite')) {
    const message = 'RequestRedirect and URLRewrite cannot be combined; remove one';
    compilation.refuse(path, message, 'IncompatibleFilters');
  }
  return filters;
}

/** The field that the type names must be there, and no other. */
function isWellFormed(spec: HttpFilterSpec, path: string, compilation: Compilation): boolean {
  const own = bodies[spec.type];
  const refusals = compilation.refusals;
  if (spec[own] === undefined) {
    compilation.refuse(`${path}.${own}`, `must be set for a filter of type ${spec.type}`);
  }
  for (const name of Object.values(bodies)) {
    if (name !== own && spec[name] !== undefined) {
      compilation.refuse(`${path}.${name}`, `cannot be set for a filter of type ${spec.type}`);
    }
  }
  return compilation.refusals === refusals;
}

function addFilter(
  filters: Building,
  spec: HttpFilterSpec,
  path: string,
  compilation: Compilation,
): void {
  if (spec.requestHeaderModifier !== undefined) {
    filters.request = headerChanges(
      spec.requestHeaderModifier,
      `${path}.requestHeaderModifier`,
      compilation,
    );
  }
  if (spec.responseHeaderModifier !== undefined) {
    filters.response = headerChanges(
      spec.responseHeaderModifier,
      `${path}.responseHeaderModifier`,
      compilation,
    );
  }
  if (spec.requestMirror !== undefined) {
    const mirror = compileMirror(spec.requestMirror, `${path}.requestMirror`, compilation);
    if (mirror !== undefined) filters.mirrors.push(mirror);
  }
  if (spec.cors !== undefined) filters.cors = compileCors(spec.cors, `${path}.cors`, compilation);
  checkPlace(filters, spec, path, compilation);
  filters.redirect = spec.requestRedirect ?? filters.redirect;
  filters.rewrite = spec.urlRewrite ?? filters.rewrite;
  for (const name of ['externalAuth', 'extensionRef'] as const) {
    if (spec[name] !== undefined) {
      compilation.refuse(`${path}.${name}`, 'is not supported; remove it');
    }
  }
}

/** Where a redirect or a rewrite leads. */
function checkPlace(
  filters: Building,
  spec: HttpFilterSpec,
  path: string,
  compilation: Compilation,
): void {
  for (const name of ['requestRedirect', 'urlRewrite'] as const) {
    const { hostname, path: modifier } = spec[name] ?? {};
    const problem = hostname === undefined ? undefined : authorityProblem(hostname);
    if (problem !== undefined) compilation.refuse(`${path}.${name}.hostname`, problem);
    if (modifier !== undefined) {
      notePathModifier(filters, modifier, `${path}.${name}.path`, compilation);
    }
  }
}

function notePathModifier(
  filters: Building,
  modifier: PathModifierSpec,
  path: string,
  compilation: Compilation,
): void {
  const field = modifier.type === 'ReplaceFullPath' ? 'replaceFullPath' : 'replacePrefixMatch';
  const value = modifier[field];
  const problem = value === undefined ? `must be set for type ${modifier.type}` : uriProblem(value);
  if (problem !== undefined) compilation.refuse(`${path}.${field}`, problem);
  const other = field === 'replaceFullPath' ? 'replacePrefixMatch' : 'replaceFullPath';
  if (modifier[other] !== undefined) {
    compilation.refuse(`${path}.${other}`, `cannot be set for type ${modifier.type}`);
  }
  if (field === 'replacePrefixMatch') filters.replacesPrefix = `${path}.${field}`;
}

/** What a filter of one backend may do: change the headers, nothing else. */
export function compileBackendChanges(
  { filters }: FilteredBackendRef,
  path: string,
  compilation: Compilation,
): BackendChanges {
  const refusals = compilation.refusals;
  for (const [index, { type }] of (filters ?? []).entries()) {
    if (type === 'RequestHeaderModifier' || type === 'ResponseHeaderModifier') continue;
    const isNowhere = type === 'ExternalAuth' || type === 'ExtensionRef';
    const where = isNowhere
      ? 'is not supported; remove it'
      : 'is not supported for a single backend; move it to the filters of the rule';
    compilation.refuse(`${path}.filters[${index}].type`, `${type} ${where}`);
  }
  if (compilation.refusals > refusals) return noBackendChanges;
  const { request, response } = compileFilters(filters, `${path}.filters`, compilation);
  return { request, response };
}

/** Of equivalent names only the first counts, as the Gateway API has it. */
function headerChanges(
  { set, add, remove }: HeaderModifierSpec,
  path: string,
  compilation: Compilation,
): HeaderChanges {
  const pairs = (headers: HeaderModifierSpec['set']): (readonly [string, string])[] => {
    const values = new Map<string, string>();
    for (const { name, value } of headers ?? []) {
      const key = name.toLowerCase();
      if (!values.has(key)) values.set(key, value);
    }
    return [...values];
  };
  const written = { set: pairs(set), add: pairs(add), remove: remove ?? [] };
  return readHeaderChanges(written, path, (field, message) => compilation.refuse(field, message));
}

/** What becomes of a request that a match with this prefix found. */
export function compileAction(
  { redirect, rewrite }: CompiledFilters,
  targets: readonly WeightedTarget[],
  matchedPrefix: string | undefined,
): HttpAction {
  if (redirect !== undefined) {
    return { kind: 'redirect', redirect: compileRedirect(redirect, matchedPrefix) };
  }
  return { kind: 'forward', targets, rewrite: compileRewrite(rewrite ?? {}, matchedPrefix) };
}

function compileRewrite(spec: UrlRewriteSpec, matched: string | undefined): Rewrite {
  return {
    ...(spec.hostname === undefined ? {} : { authority: spec.hostname }),
    ...pathRewrite(spec.path, matched),
  };
}

/** Without a port it is that of the scheme when there is one, and else the one that was asked for. */
function compileRedirect(spec: RequestRedirectSpec, matched: string | undefined): Redirect {
  const port = spec.port === undefined ? undefined : parsePort(spec.port);
  return {
    ...(spec.scheme === undefined ? {} : { scheme: spec.scheme }),
    ...(spec.hostname === undefined ? {} : { authority: spec.hostname }),
    ...(port?.ok === true
      ? { port: port.value }
      : { derivePort: spec.scheme === undefined ? 'from-request' : 'from-protocol' }),
    ...pathRewrite(spec.path, matched),
    status: spec.statusCode ?? 302,
  };
}

function pathRewrite(
  modifier: PathModifierSpec | undefined,
  matched: string | undefined,
): { readonly path?: PathRewrite } {
  if (modifier === undefined) return {};
  if (modifier.type === 'ReplaceFullPath') {
    return { path: { kind: 'full', value: modifier.replaceFullPath ?? '/' } };
  }
  return {
    path: { kind: 'prefix', matched: matched ?? '', value: modifier.replacePrefixMatch ?? '' },
  };
}

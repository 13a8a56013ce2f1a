import type { HttpMatch, NamedMatch, StringMatch } from '@ambit/api';

import { normalizeMatchedPath } from '@ambit/core';
import type { GrpcMatchSpec, HeaderMatchSpec, HttpMatchSpec } from '../resources/gateway-api.ts';
import type { Compilation } from './gateway-compilation.ts';
import { escapeRegex, quoted } from './gateway-compilation.ts';

/** One match of a rule, ready to be asked, and where it stands among others of its kind. */
export interface CompiledMatch {
  readonly match: HttpMatch;
  /** The path prefix without its last slash; undefined where the path is matched otherwise. */
  readonly prefix: string | undefined;
  /** The first number that differs decides, and the larger one wins. */
  readonly precedence: readonly number[];
  /** A part of it could not be understood: it holds for more than was meant, and what it finds is refused. */
  readonly unsure: boolean;
}

const anyMatch: HttpMatch = {
  sourceLabels: [],
  ignorePathCase: false,
  headers: [],
  withoutHeaders: [],
  query: [],
};

/**
 * The Gateway API says nothing of the rank of expressions: theirs is below every prefix and above `/`, which would hide
 * them.
 */
export function compileHttpMatch(
  spec: HttpMatchSpec,
  path: string,
  compilation: Compilation,
): CompiledMatch {
  const { refusals } = compilation;
  const matchedPath = compilePath(spec.path ?? {}, `${path}.path`, compilation);
  const headers = compileHeaders(spec.headers ?? [], `${path}.headers`, compilation);
  const query = compileNamed(
    spec.queryParams ?? [],
    (name) => name,
    `${path}.queryParams`,
    compilation,
  );
  const unsure = compilation.refusals > refusals;
  const prefix =
    matchedPath.kind === 'path-prefix' ? withoutLastSlash(matchedPath.value) : undefined;
  return {
    match: {
      ...anyMatch,
      path: matchedPath,
      ...(spec.method === undefined ? {} : { method: { kind: 'exact', value: spec.method } }),
      ...headers.fields,
      query,
    },
    prefix,
    precedence: [
      matchedPath.kind === 'exact' ? 1 : 0,
      prefix?.length ?? 0,
      matchedPath.kind === 'regex' ? 1 : 0,
      spec.method === undefined ? 0 : 1,
      headers.count,
      query.length,
      unsure ? 0 : 1,
    ],
    unsure,
  };
}

/** A method of gRPC is a path of two segments. */
export function compileGrpcMatch(
  spec: GrpcMatchSpec,
  path: string,
  compilation: Compilation,
): CompiledMatch {
  const { refusals } = compilation;
  const matchedPath = compileGrpcMethod(spec.method ?? {}, `${path}.method`, compilation);
  const headers = compileHeaders(spec.headers ?? [], `${path}.headers`, compilation);
  const unsure = compilation.refusals > refusals;
  const { service = '', method = '' } = matchedPath === anyPath ? {} : (spec.method ?? {});
  return {
    match: { ...anyMatch, path: matchedPath, ...headers.fields },
    prefix: undefined,
    precedence: [service.length, method.length, headers.count, unsure ? 0 : 1],
    unsure,
  };
}

type WithValue = Exclude<StringMatch, { readonly kind: 'present' }>;

const anyPath = { kind: 'path-prefix', value: '/' } as const;

function compilePath(
  { type, value = '/' }: NonNullable<HttpMatchSpec['path']>,
  path: string,
  compilation: Compilation,
): WithValue {
  if (type === 'RegularExpression') {
    return compileRegex(value, `${path}.value`, compilation) ?? anyPath;
  }
  if (!value.startsWith('/') || value.includes('//')) {
    compilation.refuse(
      `${path}.value`,
      `${quoted(value)} must start with / and have no empty segment`,
    );
    return anyPath;
  }
  const normal = normalizeMatchedPath(value, 'whole');
  if (!normal.ok) {
    compilation.refuse(
      `${path}.value`,
      `no request has the path ${quoted(value)}: ${normal.error}`,
    );
    return anyPath;
  }
  return { kind: type === 'Exact' ? 'exact' : 'path-prefix', value: normal.value };
}

const grpcServiceForm = /^\.?[a-z_][a-z_0-9]*(?:\.[a-z_][a-z_0-9]*)*$/i;
const grpcMethodForm = /^[a-z_][a-z_0-9]*$/i;

function compileGrpcMethod(
  { type, service = '', method = '' }: NonNullable<GrpcMatchSpec['method']>,
  path: string,
  compilation: Compilation,
): WithValue {
  if (service === '' && method === '') return anyPath;
  if (type === 'RegularExpression') {
    const segment = (pattern: string, field: string): string | undefined => {
      if (pattern === '') return '[^/]+';
      const compiled = compileRegex(pattern, `${path}.${field}`, compilation);
      return compiled && `(?:${compiled.value})`;
    };
    const first = segment(service, 'service');
    const second = segment(method, 'method');
    if (first === undefined || second === undefined) return anyPath;
    return { kind: 'regex', value: `/${first}/${second}` };
  }
  const refusals = compilation.refusals;
  if (service !== '' && !grpcServiceForm.test(service)) {
    compilation.refuse(`${path}.service`, `${quoted(service)} is no name of a gRPC service`);
  }
  if (method !== '' && !grpcMethodForm.test(method)) {
    compilation.refuse(`${path}.method`, `${quoted(method)} is no name of a gRPC method`);
  }
  if (compilation.refusals > refusals) return anyPath;
  if (method === '') return { kind: 'path-prefix', value: `/${service}` };
  if (service === '') return { kind: 'regex', value: `/[^/]+/${escapeRegex(method)}` };
  return { kind: 'exact', value: `/${service}/${method}` };
}

interface CompiledHeaders {
  readonly fields: Pick<HttpMatch, 'headers' | 'authority'>;
  /** How many different headers are asked for. */
  readonly count: number;
}

/** A match on Host is one on the authority: HTTP/2 has no such header. */
function compileHeaders(
  specs: readonly HeaderMatchSpec[],
  path: string,
  compilation: Compilation,
): CompiledHeaders {
  const all = compileNamed(specs, (name) => name.toLowerCase(), path, compilation);
  const host = all.find(({ name }) => name === 'host')?.match;
  return {
    fields: {
      headers: all.filter(({ name }) => name !== 'host'),
      ...(host === undefined ? {} : { authority: lowerCase(host) }),
    },
    count: all.length,
  };
}

function lowerCase(match: StringMatch): StringMatch {
  return match.kind === 'exact' ? { kind: 'exact', value: match.value.toLowerCase() } : match;
}

/** Of equivalent names only the first counts, as the Gateway API has it. */
function compileNamed(
  specs: readonly HeaderMatchSpec[],
  normalize: (name: string) => string,
  path: string,
  compilation: Compilation,
): readonly NamedMatch[] {
  const matches = new Map<string, NamedMatch>();
  for (const [index, { type, name: written, value }] of specs.entries()) {
    const name = normalize(written);
    if (matches.has(name)) {
      compilation.note(`${path}[${index}].name`, `${quoted(written)} was named before; remove it`);
      continue;
    }
    const match: StringMatch | undefined =
      type === 'RegularExpression'
        ? compileRegex(value, `${path}[${index}].value`, compilation)
        : { kind: 'exact', value };
    matches.set(name, { name, match: match ?? { kind: 'present' } });
  }
  return [...matches.values()];
}

function compileRegex(
  value: string,
  path: string,
  compilation: Compilation,
): WithValue | undefined {
  const problem = compilation.world.regexProblem(value);
  if (problem === undefined) return { kind: 'regex', value };
  compilation.refuse(path, `${quoted(value)} is no RE2 expression: ${problem}`);
  return undefined;
}

function withoutLastSlash(path: string): string {
  return path.endsWith('/') ? path.slice(0, -1) : path;
}

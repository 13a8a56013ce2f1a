import type { HttpMatch, NamedMatch, StringMatch } from '@ambit/api';

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
}

const anyMatch: HttpMatch = {
  sourceLabels: [],
  ignorePathCase: false,
  headers: [],
  withoutHeaders: [],
  query: [],
};

/**
 * Undefined for a match that can never be asked, which has been refused. The Gateway API says nothing of the rank of
 * expressions: theirs is below every prefix and above `/`, which would hide them.
 */
export function compileHttpMatch(
  spec: HttpMatchSpec,
  path: string,
  compilation: Compilation,
): CompiledMatch | undefined {
  const matchedPath = compilePath(spec.path ?? {}, `${path}.path`, compilation);
  const headers = compileHeaders(spec.headers ?? [], `${path}.headers`, compilation);
  const query = compileNamed(
    spec.queryParams ?? [],
    (name) => name,
    `${path}.queryParams`,
    compilation,
  );
  if (matchedPath === undefined || headers === undefined || query === undefined) return undefined;
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
    ],
  };
}

/** A method of gRPC is a path of two segments. */
export function compileGrpcMatch(
  spec: GrpcMatchSpec,
  path: string,
  compilation: Compilation,
): CompiledMatch | undefined {
  const matchedPath = compileGrpcMethod(spec.method ?? {}, `${path}.method`, compilation);
  const headers = compileHeaders(spec.headers ?? [], `${path}.headers`, compilation);
  if (matchedPath === undefined || headers === undefined) return undefined;
  return {
    match: { ...anyMatch, path: matchedPath, ...headers.fields },
    prefix: undefined,
    precedence: [
      spec.method?.service?.length ?? 0,
      spec.method?.method?.length ?? 0,
      headers.count,
    ],
  };
}

type WithValue = Exclude<StringMatch, { readonly kind: 'present' }>;

function compilePath(
  { type, value = '/' }: NonNullable<HttpMatchSpec['path']>,
  path: string,
  compilation: Compilation,
): WithValue | undefined {
  if (type === 'RegularExpression') return compileRegex(value, `${path}.value`, compilation);
  if (!value.startsWith('/') || value.includes('//')) {
    compilation.refuse(
      `${path}.value`,
      `${quoted(value)} must start with / and have no empty segment`,
    );
    return undefined;
  }
  return { kind: type === 'Exact' ? 'exact' : 'path-prefix', value };
}

const grpcServiceForm = /^\.?[a-z_][a-z_0-9]*(?:\.[a-z_][a-z_0-9]*)*$/i;
const grpcMethodForm = /^[a-z_][a-z_0-9]*$/i;

function compileGrpcMethod(
  { type, service = '', method = '' }: NonNullable<GrpcMatchSpec['method']>,
  path: string,
  compilation: Compilation,
): WithValue | undefined {
  if (service === '' && method === '') return { kind: 'path-prefix', value: '/' };
  if (type === 'RegularExpression') {
    const segment = (pattern: string, field: string): string | undefined => {
      if (pattern === '') return '[^/]+';
      const compiled = compileRegex(pattern, `${path}.${field}`, compilation);
      return compiled && `(?:${compiled.value})`;
    };
    const first = segment(service, 'service');
    const second = segment(method, 'method');
    if (first === undefined || second === undefined) return undefined;
    return { kind: 'regex', value: `/${first}/${second}` };
  }
  const refusals = compilation.refusals;
  if (service !== '' && !grpcServiceForm.test(service)) {
    compilation.refuse(`${path}.service`, `${quoted(service)} is no name of a gRPC service`);
  }
  if (method !== '' && !grpcMethodForm.test(method)) {
    compilation.refuse(`${path}.method`, `${quoted(method)} is no name of a gRPC method`);
  }
  if (compilation.refusals > refusals) return undefined;
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
): CompiledHeaders | undefined {
  const all = compileNamed(specs, (name) => name.toLowerCase(), path, compilation);
  if (all === undefined) return undefined;
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
): readonly NamedMatch[] | undefined {
  const matches = new Map<string, NamedMatch>();
  let bad = false;
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
    if (match === undefined) bad = true;
    else matches.set(name, { name, match });
  }
  return bad ? undefined : [...matches.values()];
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

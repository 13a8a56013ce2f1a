import type {
  Cidr,
  Clause,
  ConnectionAttribute,
  Match,
  Port,
  RequestAttribute,
  Result,
  StringPattern,
} from '@ambit/api';
import { err, ok, parseCidr, parsePort } from '@ambit/api';
import { normalizeMatchedPath } from '@ambit/core';

import { illegalName } from './legal-names.ts';
import type { Report } from '../kube/decode/fields.ts';
import type { OperationSpec, SourceSpec } from '../resources/authorization-policy.ts';

/** What compiling a part of a policy needs to know about the whole. */
export interface Compilation {
  /** Namespace of the policy. */
  readonly namespace: string;
  /** What a part that cannot be understood must become, so that access is never wider than was meant. */
  readonly whenUnsure: 'match' | 'no-match';
  readonly report: Report;
  readonly usesRequest: (path: string) => void;
}

/** Values and excluded values of one attribute, as they were written. */
export interface Written {
  readonly values: readonly string[] | undefined;
  readonly notValues: readonly string[] | undefined;
  readonly valuesPath: string;
  readonly notValuesPath: string;
}

export type CompiledMatch = Match | 'always' | 'never';

type ParseValue<V> = (text: string) => Result<V, string>;

interface Pruned<V> {
  readonly values: readonly V[];
  readonly notValues: readonly V[];
}

/** Parses both lists; a bad value is told and left out in the direction that keeps access narrow. */
function prune<V>(
  written: Written,
  parse: ParseValue<V>,
  compilation: Compilation,
): Pruned<V> | 'always' | 'never' {
  const values = parseAll(written.values ?? [], written.valuesPath, parse, compilation);
  const notValues = parseAll(written.notValues ?? [], written.notValuesPath, parse, compilation);
  if (compilation.whenUnsure === 'match') {
    const pruned = { values: values.bad ? [] : values.good, notValues: notValues.good };
    return pruned.values.length + pruned.notValues.length === 0 ? 'always' : pruned;
  }
  if (notValues.bad || (values.bad && values.good.length === 0)) return 'never';
  const pruned = { values: values.good, notValues: notValues.good };
  return pruned.values.length + pruned.notValues.length === 0 ? 'always' : pruned;
}

function parseAll<V>(
  texts: readonly string[],
  path: string,
  parse: ParseValue<V>,
  { report }: Compilation,
): { readonly good: readonly V[]; readonly bad: boolean } {
  const good: V[] = [];
  for (const [index, text] of texts.entries()) {
    const value = parse(text);
    if (value.ok) good.push(value.value);
    else report(`${path}[${index}]`, value.error);
  }
  return { good, bad: good.length < texts.length };
}

export function connectionMatch(
  attribute: ConnectionAttribute,
  written: Written,
  compilation: Compilation,
): CompiledMatch {
  const parse: ParseValue<StringPattern> = (text) => {
    switch (attribute) {
      case 'source.serviceAccount':
        return parseServiceAccount(text, compilation.namespace);
      case 'connection.sni':
        return parsePattern(text.toLowerCase());
      case 'source.principal':
      case 'source.namespace':
        return parsePattern(text);
    }
  };
  tellUseless(written, compilation, (text) => {
    if (attribute === 'source.principal' && text.startsWith('spiffe://'))
      return "is nobody's principal: leave out spiffe://";
    const pattern = parse(text);
    return pattern.ok ? illegalName(attribute, pattern.value) : undefined;
  });
  const pruned = prune(written, parse, compilation);
  return typeof pruned === 'string' ? pruned : { kind: 'connection', attribute, ...pruned };
}

/** Values that nothing can have, and so match nothing: as with Istio they are kept. */
function tellUseless(
  { values = [], notValues = [], valuesPath, notValuesPath }: Written,
  { report }: Compilation,
  whyUseless: (text: string) => string | undefined,
): void {
  for (const [texts, path, effect] of [
    [values, valuesPath, 'it matches nothing'],
    [notValues, notValuesPath, 'it leaves nothing out'],
  ] as const) {
    for (const [index, text] of texts.entries()) {
      const why = whyUseless(text);
      if (why === undefined) continue;
      report(`${path}[${index}]`, `${quoted(text)} ${why}; ${effect}`, true);
    }
  }
}

export function addressMatch(
  attribute: 'source.ip' | 'remote.ip' | 'destination.ip',
  written: Written,
  compilation: Compilation,
): CompiledMatch {
  const parse: ParseValue<Cidr> = (text) => {
    const cidr = parseCidr(text);
    return cidr.ok ? cidr : err(cidr.error.message);
  };
  const pruned = prune(written, parse, compilation);
  return typeof pruned === 'string' ? pruned : { kind: 'address', attribute, ...pruned };
}

export function portMatch(written: Written, compilation: Compilation): CompiledMatch {
  const parse: ParseValue<Port> = (text) => {
    const port = parsePort(text);
    return port.ok ? port : err(port.error.message);
  };
  const pruned = prune(written, parse, compilation);
  if (typeof pruned === 'string') return pruned;
  return { kind: 'port', attribute: 'destination.port', ...pruned };
}

export function requestMatch(
  attribute: RequestAttribute,
  written: Written,
  compilation: Compilation,
): CompiledMatch {
  compilation.usesRequest(
    written.values === undefined || written.values.length === 0
      ? written.notValuesPath
      : written.valuesPath,
  );
  const parse = attribute.kind === 'path' ? parsePath : parsePattern;
  tellUseless(written, compilation, (text) => {
    const pattern = parse(text);
    return pattern.ok ? illegalInRequest(attribute, pattern.value) : undefined;
  });
  const pruned = prune(written, parse, compilation);
  return typeof pruned === 'string' ? pruned : { kind: 'request', attribute, ...pruned };
}

const methods: ReadonlySet<string> = new Set(
  'GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH'.split(' '),
);

function illegalInRequest(attribute: RequestAttribute, pattern: StringPattern): string | undefined {
  if (pattern.kind === 'presence' || pattern.kind === 'suffix') return undefined;
  const { kind, value } = pattern;
  switch (attribute.kind) {
    case 'requestPrincipal':
      return kind === 'exact' && !value.includes('/')
        ? "is no token's principal; write ISSUER/SUBJECT"
        : undefined;
    case 'path':
      return value.startsWith('/') ? undefined : 'is no path; begin it with /';
    case 'method':
      return kind === 'exact' && !methods.has(value) && methods.has(value.toUpperCase())
        ? `is no method; write ${value.toUpperCase()}`
        : undefined;
    default:
      return undefined;
  }
}

/** Istio's forms `x`, `x*`, `*x` and `*`; a star anywhere else would be a letter that nobody has in a name. */
export function parsePattern(text: string): Result<StringPattern, string> {
  const pattern = parseStars(text);
  if (pattern.ok && pattern.value.kind !== 'presence' && pattern.value.value.includes('*')) {
    return err(`${quoted(text)} has a * that is neither its first nor its last character`);
  }
  return pattern;
}

/** Paths may hold `{*}` for one segment and `{**}` for any number of them. */
function parsePath(written: string): Result<StringPattern, string> {
  const text = asForwarded(written);
  if (!text.includes('{')) return parsePattern(text);
  const segments = text.split('/');
  const star = segments.indexOf('{**}');
  const readable = segments.every(
    (segment) => segment === '{*}' || segment === '{**}' || !/[{}*]/.test(segment),
  );
  const later = segments.slice(star + 1);
  if (!readable || (star >= 0 && later.some((one) => one.startsWith('{')))) {
    return err(
      `${quoted(text)} is no path template: {*} stands for one whole segment, and {**}, the last of them, for any number`,
    );
  }
  return ok({ kind: 'template', value: text });
}

/** Paths are judged as they are forwarded: `/a//b`, `/a%2Fb` and `/a/./b` are `/a/b` there. */
function asForwarded(path: string): string {
  const isPrefix = path.endsWith('*');
  const text = isPrefix ? path.slice(0, -1) : path;
  if (text.startsWith('/') && !text.includes('{')) {
    const normal = normalizeMatchedPath(text, isPrefix ? 'prefix' : 'whole');
    if (normal.ok) return isPrefix ? `${normal.value}*` : normal.value;
  }
  return withEscapes(path);
}

/** What needs no escape has none, the others are written in capitals. */
function withEscapes(path: string): string {
  return path
    .replace(/%[0-9A-Fa-f]{2}/g, (escape) => {
      const char = String.fromCharCode(Number.parseInt(escape.slice(1), 16));
      return /[A-Za-z0-9._~-]/.test(char) ? char : escape.toUpperCase();
    })
    .replace(/[^\x00-\x7f]+/g, (text) => (text.isWellFormed() ? encodeURIComponent(text) : text));
}

function parseStars(text: string): Result<StringPattern, string> {
  if (text === '') return err('must not be empty; use * to match any value');
  if (text === '*') return ok({ kind: 'presence' });
  if (text.startsWith('*')) return ok({ kind: 'suffix', value: text.slice(1) });
  if (text.endsWith('*')) return ok({ kind: 'prefix', value: text.slice(0, -1) });
  return ok({ kind: 'exact', value: text });
}

function parseServiceAccount(text: string, namespace: string): Result<StringPattern, string> {
  const parts = text.split('/');
  const [first = '', second] = parts;
  const value = second === undefined ? `${namespace}/${first}` : text;
  if (parts.length > 2 || !/^[a-z0-9.-]+\/[a-z0-9.-]+$/.test(value)) {
    return err(`${quoted(text)} is neither NAME nor NAMESPACE/NAME of a service account`);
  }
  return ok({ kind: 'exact', value });
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 100));
}

export function compileSource(
  source: SourceSpec,
  path: string,
  compilation: Compilation,
): Clause | 'never' {
  const written = (name: keyof SourceSpec, notName: keyof SourceSpec): Written => ({
    values: source[name],
    notValues: source[notName],
    valuesPath: `${path}.${name}`,
    notValuesPath: `${path}.${notName}`,
  });
  const connection = (
    attribute: ConnectionAttribute,
    name: keyof SourceSpec,
    notName: keyof SourceSpec,
  ) => connectionMatch(attribute, written(name, notName), compilation);
  if (isEmpty(source)) return emptyClause(path, compilation);
  return clauseOf([
    connection('source.principal', 'principals', 'notPrincipals'),
    connection('source.namespace', 'namespaces', 'notNamespaces'),
    connection('source.serviceAccount', 'serviceAccounts', 'notServiceAccounts'),
    addressMatch('source.ip', written('ipBlocks', 'notIpBlocks'), compilation),
    addressMatch('remote.ip', written('remoteIpBlocks', 'notRemoteIpBlocks'), compilation),
    maybeRequest(
      { kind: 'requestPrincipal' },
      written('requestPrincipals', 'notRequestPrincipals'),
      compilation,
    ),
  ]);
}

export function compileOperation(
  operation: OperationSpec,
  path: string,
  compilation: Compilation,
): Clause | 'never' {
  const written = (name: keyof OperationSpec, notName: keyof OperationSpec): Written => ({
    values: operation[name],
    notValues: operation[notName],
    valuesPath: `${path}.${name}`,
    notValuesPath: `${path}.${notName}`,
  });
  if (isEmpty(operation)) return emptyClause(path, compilation);
  return clauseOf([
    portMatch(written('ports', 'notPorts'), compilation),
    maybeRequest({ kind: 'host' }, written('hosts', 'notHosts'), compilation),
    maybeRequest({ kind: 'method' }, written('methods', 'notMethods'), compilation),
    maybeRequest({ kind: 'path' }, written('paths', 'notPaths'), compilation),
  ]);
}

function maybeRequest(
  attribute: RequestAttribute,
  written: Written,
  compilation: Compilation,
): CompiledMatch {
  const count = (written.values?.length ?? 0) + (written.notValues?.length ?? 0);
  return count === 0 ? 'always' : requestMatch(attribute, written, compilation);
}

/** Fields that are there but hold nothing count as absent: an empty list cannot have been meant to match all. */
function isEmpty(spec: Readonly<Record<string, readonly string[] | undefined>>): boolean {
  return Object.values(spec).every((values) => values === undefined || values.length === 0);
}

function emptyClause(path: string, { report, whenUnsure }: Compilation): Clause | 'never' {
  report(path, 'names no attribute; leave it out to match everything');
  return whenUnsure === 'match' ? [] : 'never';
}

function clauseOf(matches: readonly CompiledMatch[]): Clause | 'never' {
  const clause: Match[] = [];
  for (const match of matches) {
    if (match === 'never') return 'never';
    if (match !== 'always') clause.push(match);
  }
  return clause;
}

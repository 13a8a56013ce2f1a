import type { HttpMatch, LabelPairs, NamedMatch, SourceMatch, StringMatch } from '@ambit/api';
import { parsePort } from '@ambit/api';
import { normalizeMatchedPath } from '@ambit/core';

import type { Report } from '../kube/decode/fields.ts';
import type { HttpMatchSpec, StringMatchSpec } from '../resources/virtual-service.ts';
import { isHeaderName } from './header-changes.ts';
import type { VirtualServiceWorld } from './virtual-service-world.ts';

/** What reading a match needs: somewhere to tell what is wrong, and who knows RE2. */
export interface MatchReader {
  readonly report: Report;
  readonly world: Pick<VirtualServiceWorld, 'regexProblem'>;
}

/**
 * A match as far as it can be understood. An unsure one holds for more than was meant, never for less: what it
 * selects is refused, so that it falls neither to its own route nor to the next one.
 */
export interface ReadMatch {
  readonly match: HttpMatch;
  readonly unsure: boolean;
}

const pseudoNames: ReadonlySet<string> = new Set(['uri', 'scheme', 'method', 'authority']);

export function forMesh(gateways: readonly string[] | undefined): boolean {
  return gateways === undefined || gateways.length === 0 || gateways.includes('mesh');
}

export function readHttpMatch(spec: HttpMatchSpec, path: string, reader: MatchReader): ReadMatch {
  const source = readSource(spec, path, reader);
  const asked = new Asked(path, reader);
  const uri = asPath(asked.one(spec.uri, 'uri', 'may-be-empty'), `${path}.uri`, reader);
  const scheme = asked.one(spec.scheme, 'scheme');
  const method = asked.one(spec.method, 'method');
  const authority = lowerCase(asked.one(spec.authority, 'authority'));
  const match = {
    ...(source ?? { sourceLabels: [] }),
    ...(uri === undefined ? {} : { path: uri }),
    ignorePathCase: spec.ignoreUriCase ?? false,
    ...(scheme === undefined ? {} : { scheme }),
    ...(method === undefined ? {} : { method }),
    ...(authority === undefined ? {} : { authority }),
    headers: asked.headers(spec.headers, 'headers', 'present'),
    withoutHeaders: asked.headers(spec.withoutHeaders, 'withoutHeaders', undefined),
    query: asked.named(spec.queryParams, 'queryParams', 'present'),
  };
  return { match, unsure: asked.unsure || source === undefined };
}

/** In the form to which waypoints bring the paths of requests before they ask for routes. */
function asPath(
  match: StringMatch | undefined,
  path: string,
  { report }: MatchReader,
): StringMatch | undefined {
  if (match?.kind !== 'exact' && match?.kind !== 'prefix') return match;
  // As in Envoy, every path begins with nothing.
  if (match.kind === 'prefix' && match.value === '') return match;
  const normal = normalizeMatchedPath(match.value, match.kind === 'exact' ? 'whole' : 'prefix');
  if (normal.ok) return { kind: match.kind, value: normal.value };
  const why = `no request has such a path (${normal.error}); the match never holds, mend or remove it`;
  report(`${path}.${match.kind}`, why, true);
  return match;
}

/** As authorities are when routes are asked. What an expression means is left to who wrote it. */
function lowerCase(match: StringMatch | undefined): StringMatch | undefined {
  if (match?.kind !== 'exact' && match?.kind !== 'prefix') return match;
  return { kind: match.kind, value: match.value.toLowerCase() };
}

/** Reads the parts of one match, and remembers whether one of them could not be. */
class Asked {
  unsure = false;
  readonly #path: string;
  readonly #reader: MatchReader;

  constructor(path: string, reader: MatchReader) {
    this.#path = path;
    this.#reader = reader;
  }

  one(
    spec: StringMatchSpec | undefined,
    field: string,
    prefix?: 'may-be-empty',
  ): StringMatch | undefined {
    if (spec === undefined) return undefined;
    if (spec.prefix === '' && prefix === undefined) {
      this.#reader.report(
        `${this.#path}.${field}.prefix`,
        'must not be empty; it matches anything',
      );
    }
    const match = readStringMatch(spec, `${this.#path}.${field}`, this.#reader);
    if (match === undefined) this.unsure = true;
    return match;
  }

  headers(
    specs: Readonly<Record<string, StringMatchSpec>> | undefined,
    field: string,
    instead: 'present' | undefined,
  ): NamedMatch[] {
    const asked: [string, StringMatchSpec][] = [];
    for (const [name, spec] of Object.entries(specs ?? {})) {
      const at = `${this.#path}.${field}[${name}]`;
      if (pseudoNames.has(name)) {
        this.#reader.report(at, `is ignored, as in Istio; use the field ${name} of the match`);
      } else if (isHeaderName(name)) asked.push([name.toLowerCase(), spec]);
      else {
        this.unsure = true;
        this.#reader.report(at, 'is no name of a header');
      }
    }
    return this.named(Object.fromEntries(asked), field, instead);
  }

  /** An empty match asks only whether it is there, and so does one that cannot be read, where that is wider. */
  named(
    specs: Readonly<Record<string, StringMatchSpec>> | undefined,
    field: string,
    instead: 'present' | undefined,
  ): NamedMatch[] {
    return Object.entries(specs ?? {}).flatMap(([name, spec]): NamedMatch[] => {
      if (Object.keys(spec).length === 0) return [{ name, match: { kind: 'present' } }];
      const match = this.one(spec, `${field}[${name}]`);
      if (match !== undefined) return [{ name, match }];
      return instead === undefined ? [] : [{ name, match: { kind: instead } }];
    });
  }
}

export interface SourceSpec {
  readonly port?: number;
  readonly sourceLabels?: Readonly<Record<string, string>>;
  readonly sourceNamespace?: string;
}

export function readSource(
  spec: SourceSpec,
  path: string,
  { report }: MatchReader,
): SourceMatch | undefined {
  const sourceLabels: LabelPairs = Object.entries(spec.sourceLabels ?? {});
  const port = spec.port === undefined ? undefined : parsePort(spec.port);
  if (port?.ok === false) {
    report(`${path}.port`, port.error.message);
    return undefined;
  }
  return {
    sourceLabels,
    ...(spec.sourceNamespace === undefined ? {} : { sourceNamespace: spec.sourceNamespace }),
    ...(port === undefined ? {} : { port: port.value }),
  };
}

export function readStringMatch(
  spec: StringMatchSpec,
  path: string,
  { report, world }: MatchReader,
): StringMatch | undefined {
  const given = Object.entries(spec);
  const [only] = given;
  if (only === undefined || given.length > 1) {
    report(path, 'needs exactly one of exact, prefix and regex');
    return undefined;
  }
  const [kind, value] = only as ['exact' | 'prefix' | 'regex', string];
  if (kind !== 'regex') return { kind, value };
  if (value === '') report(`${path}.regex`, 'must not be empty; it matches what is empty alone');
  const problem = world.regexProblem(value);
  if (problem === undefined) return { kind, value };
  report(`${path}.regex`, `is no regular expression of RE2: ${problem}`);
  return undefined;
}

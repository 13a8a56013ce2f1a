import type { HeaderChanges, Result } from '@ambit/api';
import { ok } from '@ambit/api';
import type { HeaderFormat } from '@ambit/core';
import { compileHeaderFormat } from '@ambit/core';
import { authorityProblem } from './target-text.ts';

const nameForm = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}$/;
// Whatever else is in a value could end the line and begin another one.
const valueForm = /^[\t\x20-\x7e\x80-\xff]{0,8192}$/;

/** They frame a message or say who the client is: not for routes to change. */
const notForRoutes: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'x-forwarded-client-cert',
]);
const authorityNames: ReadonlySet<string> = new Set(['host', ':authority']);

export function isHeaderName(name: string): boolean {
  return nameForm.test(name);
}

/** What a route says of headers, as written. */
export interface WrittenChanges {
  readonly set?: readonly (readonly [name: string, value: string])[];
  readonly add?: readonly (readonly [name: string, value: string])[];
  readonly remove?: readonly string[];
  /** The values are Envoy's format strings, as Istio's are; those of the Gateway API are text. */
  readonly formatted?: true;
}

/** Names in lower case; what may not be changed this way, or would break the message, is told and left out. */
export function readHeaderChanges(
  written: WrittenChanges,
  path: string,
  report: (field: string, message: string) => void,
): HeaderChanges {
  const valueOf = (text: string): Result<HeaderFormat, string> =>
    written.formatted === true ? compileHeaderFormat(text) : ok({ kind: 'fixed', value: text });
  const pairs = (field: 'set' | 'add'): Pairs => {
    const fixed: Pair[] = [];
    const formats: Pair[] = [];
    for (const [name, text] of written[field] ?? []) {
      const value = valueOf(text);
      const lower = name.toLowerCase();
      const problem =
        nameProblem(lower, field) ??
        (value.ok ? valueProblem(lower, text, value.value) : value.error);
      if (problem !== undefined) report(`${path}.${field}[${name}]`, problem);
      else if (value.ok && value.value.kind === 'fixed')
        fixed.push([lower, value.value.value.trim()]);
      else formats.push([lower, text.trim()]);
    }
    return { fixed, formats };
  };
  const remove: string[] = [];
  for (const [index, name] of (written.remove ?? []).entries()) {
    const problem = nameProblem(name.toLowerCase(), 'remove');
    if (problem !== undefined) report(`${path}.remove[${index}]`, problem);
    else remove.push(name.toLowerCase());
  }
  const set = pairs('set');
  const add = pairs('add');
  const fixed = { remove, set: set.fixed, add: add.fixed };
  return set.formats.length + add.formats.length === 0
    ? fixed
    : { ...fixed, formats: { set: set.formats, add: add.formats } };
}

type Pair = readonly [name: string, value: string];
interface Pairs {
  readonly fixed: readonly Pair[];
  readonly formats: readonly Pair[];
}

function nameProblem(name: string, field: 'set' | 'add' | 'remove'): string | undefined {
  if (authorityNames.has(name)) {
    return field === 'set' ? undefined : 'can only be set, not added or removed';
  }
  if (!isHeaderName(name)) return 'is no name of a header';
  return notForRoutes.has(name) ? 'is not for routes to change; remove it' : undefined;
}

function valueProblem(name: string, text: string, value: HeaderFormat): string | undefined {
  if (!valueForm.test(text)) return 'has a value with characters that no header may have';
  return authorityNames.has(name) && value.kind === 'fixed'
    ? authorityProblem(value.value)
    : undefined;
}

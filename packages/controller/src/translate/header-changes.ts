import type { HeaderChanges } from '@ambit/api';

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
}

/** Names in lower case; what may not be changed this way, or would break the message, is told and left out. */
export function readHeaderChanges(
  written: WrittenChanges,
  path: string,
  report: (field: string, message: string) => void,
): HeaderChanges {
  const good = (name: string, value: string, at: string, authority: boolean): boolean => {
    const lower = name.toLowerCase();
    const problem =
      authorityNames.has(lower) && !authority
        ? 'can only be set, not added or removed'
        : authorityNames.has(lower)
          ? valueProblem(value)
          : (nameProblem(lower) ?? valueProblem(value));
    if (problem !== undefined) report(at, problem);
    return problem === undefined;
  };
  const pairs = (field: 'set' | 'add'): (readonly [string, string])[] =>
    (written[field] ?? [])
      .filter(([name, value]) => good(name, value, `${path}.${field}[${name}]`, field === 'set'))
      .map(([name, value]) => [name.toLowerCase(), value] as const);
  return {
    remove: (written.remove ?? [])
      .filter((name, index) => good(name, '', `${path}.remove[${index}]`, false))
      .map((name) => name.toLowerCase()),
    set: pairs('set'),
    add: pairs('add'),
  };
}

function nameProblem(name: string): string | undefined {
  if (!isHeaderName(name)) return 'is no name of a header';
  return notForRoutes.has(name) ? 'is not for routes to change; remove it' : undefined;
}

function valueProblem(value: string): string | undefined {
  return valueForm.test(value) ? undefined : 'has a value with characters that no header may have';
}

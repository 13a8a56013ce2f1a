import type {
  HeaderChanges,
  HttpRoute,
  PathRewrite,
  Port,
  Redirect,
  Rewrite,
  WeightedTarget,
} from '@ambit/api';
import { assertNever, noChanges } from '@ambit/api';
import type { AccessEntry } from '@ambit/core';
import { compileHeaderFormat } from '@ambit/core';
import { isAuthority } from '../http/authority.ts';
import type { HeaderList } from '../http/headers.ts';
import { replaceAll } from './regex.ts';

/** Fields that frame or route a message are not for configuration to change this way. */
const untouchable: ReadonlySet<string> = new Set([
  'content-length',
  'transfer-encoding',
  'connection',
  'upgrade',
  'te',
  'trailer',
]);

/**
 * Changes the fields in place; `:authority` and `host` are answered as the new authority. `entry` is what formats read
 * of the request; without one they write nothing.
 */
export function changeHeaders(
  headers: HeaderList,
  changes: HeaderChanges,
  entry?: AccessEntry,
): string | undefined {
  let authority: string | undefined;
  for (const name of changes.remove) if (!untouchable.has(name)) headers.delete(name);
  for (const [name, value] of changes.set) {
    if (name === 'host' || name === ':authority') authority = value.toLowerCase();
    else if (!untouchable.has(name)) headers.set(name, value);
  }
  for (const [name, value] of changes.add) {
    if (!untouchable.has(name) && name !== 'host') headers.append(name, value);
  }
  if (changes.formats === undefined || entry === undefined) return authority;
  return writeFormats(headers, changes.formats, entry) ?? authority;
}

type Formats = NonNullable<HeaderChanges['formats']>;
interface Written {
  readonly name: string;
  readonly adds: boolean;
  readonly write: (entry: AccessEntry) => string;
}

const compiled = new WeakMap<Formats, readonly Written[]>();

/** As in Envoy a field whose value comes out empty is left as it was. */
function writeFormats(
  headers: HeaderList,
  formats: Formats,
  entry: AccessEntry,
): string | undefined {
  let written = compiled.get(formats);
  if (written === undefined) compiled.set(formats, (written = compileFormats(formats)));
  let authority: string | undefined;
  for (const { name, adds, write } of written) {
    const value = write(entry);
    if (value === '' || untouchable.has(name)) continue;
    if (name !== 'host' && name !== ':authority') {
      if (adds) headers.append(name, value);
      else headers.set(name, value);
    } else if (!adds && isAuthority(value.toLowerCase())) authority = value.toLowerCase();
  }
  return authority;
}

function compileFormats({ set, add }: Formats): readonly Written[] {
  const of = (pairs: Formats['set'], adds: boolean): readonly Written[] =>
    pairs.flatMap(([name, text]) => {
      const format = compileHeaderFormat(text);
      // The controller has refused what cannot be compiled.
      if (!format.ok) return [];
      const { value } = format;
      return [{ name, adds, write: value.kind === 'fixed' ? () => value.value : value.write }];
    });
  return [...of(set, false), ...of(add, true)];
}

/** The target with its path rewritten; the query stays. */
export function rewritePath(target: string, rewrite: PathRewrite | undefined): string {
  if (rewrite === undefined) return target;
  const queryAt = target.indexOf('?');
  const path = queryAt < 0 ? target : target.slice(0, queryAt);
  const query = queryAt < 0 ? '' : target.slice(queryAt);
  return rooted(rewritten(path, rewrite)) + query;
}

/**
 * Whether a rewritten path has dot segments, which no path has that policies have judged: what a prefix was cut off
 * from may begin with dots, and its reader would go to where nobody looked.
 */
export function climbs(target: string): boolean {
  const queryAt = target.indexOf('?');
  const path = queryAt < 0 ? target : target.slice(0, queryAt);
  return /(?:^|[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:$|[/\\]|%2f|%5c)/i.test(path);
}

function rewritten(path: string, rewrite: PathRewrite): string {
  switch (rewrite.kind) {
    case 'full':
      return rewrite.value;
    case 'regex':
      return replaceAll(rewrite.match, path, rewrite.rewrite);
    case 'prefix': {
      const rest = path.slice(rewrite.matched.length);
      // `/a` → `/b` of `/a/c` is `/b/c`, and `/a` → `/` of it is `/c`: never two slashes, never none.
      if (rewrite.value.endsWith('/') && rest.startsWith('/')) return rewrite.value + rest.slice(1);
      return rewrite.value + rest;
    }
    default:
      return assertNever(rewrite);
  }
}

function rooted(path: string): string {
  return path.startsWith('/') ? path : `/${path}`;
}

function rewriteAuthority(authority: string, rewrite: Rewrite): string {
  return rewrite.authority?.toLowerCase() ?? authority;
}

/** Does to the fields of a request what its route says, and answers its authority from then on. */
export function changedByRoute(
  headers: HeaderList,
  authority: string,
  {
    route,
    target,
  }: { readonly route: HttpRoute | undefined; readonly target: Pick<WeightedTarget, 'request'> },
  entry: AccessEntry,
): string {
  const rewrite = route?.action.kind === 'forward' ? route.action.rewrite : {};
  // As in Envoy: what the route sets stands for what a single destination sets.
  const ofTarget = changeHeaders(headers, target.request, entry);
  const ofRoute = changeHeaders(headers, route?.request ?? noChanges, entry);
  return ofRoute ?? ofTarget ?? rewriteAuthority(authority, rewrite);
}

/** Where a redirect leads. */
export function locationOf(
  redirect: Redirect,
  request: {
    readonly scheme: string;
    readonly authority: string;
    readonly path: string;
    readonly port: Port;
  },
): string {
  const scheme = redirect.scheme ?? request.scheme;
  const host = redirect.authority ?? request.authority.replace(/:\d{1,5}$/, '');
  const asked = /:(\d{1,5})$/.exec(request.authority)?.[1];
  const implied = scheme === 'https' ? 443 : 80;
  const port =
    redirect.port ??
    (redirect.derivePort === 'from-protocol'
      ? implied
      : redirect.derivePort === 'from-request'
        ? request.port
        : redirect.authority === undefined && asked !== undefined
          ? keptPort(Number(asked), redirect.scheme, implied)
          : implied);
  const shown = /:\d{1,5}$/.test(host) || port === implied ? '' : `:${port}`;
  return `${scheme}://${host}${shown}${targetOf(redirect.path, request.path)}`;
}

/** With another scheme a port stays, unless it was one that goes without saying (Envoy's rule). */
function keptPort(asked: number, scheme: string | undefined, implied: number): number {
  return scheme !== undefined && (asked === 80 || asked === 443) ? implied : asked;
}

/** A query that the redirect itself names takes the place of the request's. */
function targetOf(path: PathRewrite | undefined, asked: string): string {
  const names = path !== undefined && path.kind !== 'regex' && path.value.includes('?');
  return rewritePath(names ? (asked.split('?')[0] ?? '') : asked, path);
}

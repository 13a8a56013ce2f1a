import type { RequestAuthentication } from '@ambit/api';

/** Where tokens are looked for when a rule does not say (RFC 6750 §2.3). */
const customary = 'access_token';

/** Parameters of a query that may hold a token by one of the rules. */
export function tokenParamsOf(
  authentications: readonly (RequestAuthentication | 'undecodable')[],
): ReadonlySet<string> {
  const names = new Set<string>([customary]);
  for (const one of authentications) {
    if (one === 'undecodable') continue;
    for (const { from } of one.rules) {
      for (const location of from) if (location.kind === 'query') names.add(location.name);
    }
  }
  return names;
}

/** A path without some parameters of its query; the others stay as they came. */
export function withoutParams(path: string, isMeant: (name: string) => boolean): string {
  const at = path.indexOf('?');
  if (at < 0) return path;
  const pairs = path.slice(at + 1).split('&');
  const left = pairs.filter((pair) => !isMeant(nameOf(pair)));
  if (left.length === pairs.length) return path;
  return path.slice(0, at) + (left.length === 0 ? '' : `?${left.join('&')}`);
}

/** As tokens are looked for. */
function nameOf(pair: string): string {
  for (const name of new URLSearchParams(pair).keys()) return name;
  return '';
}

import type { CorsPolicy, HeaderChanges } from '@ambit/api';
import { noChanges } from '@ambit/api';
import type { RequestHead } from '../http/message.ts';
import { stringMatches } from './match.ts';

/** What becomes of a request of a page of another origin. */
export type CorsOutcome =
  /** Goes on; its answer gets these. */
  | { readonly kind: 'go'; readonly changes: HeaderChanges }
  /** A preflight, which is answered 200 with these. */
  | { readonly kind: 'answer'; readonly changes: HeaderChanges };

export function judgeCors(cors: CorsPolicy, origin: string, request: RequestHead): CorsOutcome {
  const allowed = cors.allowOrigins.some(
    (one) => (one.kind === 'exact' && one.value === '*') || stringMatches(one, origin),
  );
  const preflight =
    request.method === 'OPTIONS' && request.headers.has('access-control-request-method');
  if (!allowed) {
    const answered = preflight && !cors.forwardUnmatchedPreflights;
    return { kind: answered ? 'answer' : 'go', changes: noChanges };
  }
  const set: (readonly [string, string])[] = [['access-control-allow-origin', origin]];
  if (cors.allowCredentials) set.push(['access-control-allow-credentials', 'true']);
  const list = (name: string, values: readonly string[]): void => {
    if (values.length > 0) set.push([`access-control-${name}`, values.join(',')]);
  };
  if (!preflight) {
    list('expose-headers', cors.exposeHeaders);
    return { kind: 'go', changes: { remove: [], set, add: [] } };
  }
  list('allow-methods', cors.allowMethods);
  list('allow-headers', cors.allowHeaders);
  if (cors.maxAgeSeconds !== undefined) {
    set.push(['access-control-max-age', String(cors.maxAgeSeconds)]);
  }
  return { kind: 'answer', changes: { remove: [], set, add: [] } };
}

import { noChanges } from '@ambit/api';
import { MeshError } from '@ambit/core';
import type { HttpAnswer, HttpCall, HttpClient } from '../../client/http.ts';
import type { Check, HttpAuthorizer, Verdict } from './check.ts';
import { maxAnswerBytes } from './check.ts';
import { isNamed, isValue, mayWrite } from './fields.ts';

/** Asks as Envoy's HTTP authorization service is asked: the request itself, without what was not asked for. */
export async function askOverHttp(
  client: HttpClient,
  provider: HttpAuthorizer,
  check: Check,
  signal: AbortSignal,
): Promise<Verdict> {
  return verdictOf(provider, await client.request({ ...checkOf(provider, check), signal }));
}

export function checkOf(provider: HttpAuthorizer, { request, headers, body }: Check): HttpCall {
  const fields: (readonly [string, string])[] = [['host', request.authority]];
  const additional = new Set(provider.additionalHeaders.map(([name]) => name));
  for (const [name, value] of headers) {
    if (additional.has(name) || !mayAsk(name)) continue;
    if (name === 'authorization' || isNamed(provider.includeRequestHeaders, name))
      fields.push([name, value]);
  }
  for (const field of provider.additionalHeaders) if (mayAsk(field[0])) fields.push(field);
  if (body !== undefined) fields.push(['x-envoy-auth-partial-body', String(!body.whole)]);
  const bytes = body?.bytes ?? Buffer.alloc(0);
  const prefix = provider.pathPrefix.replace(/\/$/, '');
  return {
    address: provider.address,
    method: request.method,
    path: request.path === '*' ? prefix || '/' : `${prefix}${request.path}`,
    headers: fields,
    // With none the client says that there is none where the method usually has one.
    body: bytes.length > 0 ? bytes : undefined,
    timeoutMs: provider.timeoutMs,
    maxAnswerBytes,
  };
}

const notAsked: ReadonlySet<string> = new Set(['x-envoy-auth-partial-body']);

/** What the proxy says of the client may be asked about, because by now it is the proxy that says it. */
function mayAsk(name: string): boolean {
  return !notAsked.has(name) && (mayWrite(name) || name.startsWith('x-forwarded-'));
}

export function verdictOf(provider: HttpAuthorizer, answer: HttpAnswer): Verdict {
  const { status, headers, body } = answer;
  // As Envoy: a server error is no verdict.
  if (status < 200 || status >= 500) {
    throw new MeshError('authorizer/failed', `the authorizer answered ${status}`);
  }
  const written = [...headers].filter(([name, value]) => mayWrite(name) && isValue(value));
  if (status === 200) {
    const up = written.filter(([name]) => isNamed(provider.headersToUpstreamOnAllow, name));
    const down = written.filter(([name]) => isNamed(provider.headersToDownstreamOnAllow, name));
    return {
      kind: 'allow',
      request: { remove: up.map(([name]) => name), set: [], add: up },
      response: down.length === 0 ? noChanges : { remove: [], set: [], add: down },
    };
  }
  const { headersToDownstreamOnDeny } = provider;
  const always: ReadonlySet<string> = new Set(['www-authenticate', 'location', 'content-type']);
  return {
    kind: 'deny',
    status,
    headers: written.filter(
      ([name]) =>
        headersToDownstreamOnDeny.length === 0 ||
        always.has(name) ||
        isNamed(headersToDownstreamOnDeny, name),
    ),
    body: body.toString(),
  };
}

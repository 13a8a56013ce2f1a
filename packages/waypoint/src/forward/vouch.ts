import type { HashKey } from '@ambit/api';
import type { Downstream } from '../context.ts';
import type { HeaderList } from '../http/headers.ts';
import type { RequestHead } from '../http/message.ts';
import { pooledRandomBytes } from '../observe/random.ts';
import { continueTrace, traceHeaderNames, traceHeaders } from '../observe/trace-context.ts';

/** As Istio's default. */
const tracing = { samplingPercent: 1, random: Math.random, randomBytes: pooledRandomBytes };

/** What only the proxy may say of a client: taken away first, then set. */
export function vouch(
  headers: HeaderList,
  request: RequestHead,
  downstream: Downstream,
  own: string,
): void {
  for (const [name] of [...headers]) if (name.startsWith('x-envoy-')) headers.delete(name);
  headers.set('x-forwarded-client-cert', `By=${own};URI=${downstream.peer.uri}`);
  headers.set('x-forwarded-proto', request.scheme);
  // The caller's trace goes on; where it told of none, one begins here.
  const trace = continueTrace((name) => request.headers.get(name), tracing);
  for (const name of traceHeaderNames) headers.delete(name);
  for (const [name, value] of traceHeaders(trace)) headers.set(name, value);
}

/** What requests that belong together share; undefined where this one has nothing of the kind. */
export function valueOf(key: HashKey, request: RequestHead, sourceIp: string): string | undefined {
  switch (key.kind) {
    case 'header':
      return request.headers.get(key.name.toLowerCase());
    case 'source-ip':
      return sourceIp;
    case 'query': {
      const at = request.path.indexOf('?');
      return new URLSearchParams(at < 0 ? '' : request.path.slice(at)).get(key.name) ?? undefined;
    }
    case 'cookie':
      return request.headers
        .all('cookie')
        .flatMap((line) => line.split(';'))
        .map((pair) => pair.trim().split('='))
        .find(([name]) => name === key.name)
        ?.slice(1)
        .join('=');
  }
}

import type { HashKey, TrafficSettings } from '@ambit/api';
import type { RequestHead } from '../http/message.ts';
import { requestField } from '../http/request-field.ts';
import { hashOf } from './balance/hash.ts';

/** What requests that belong together share; undefined where this one has nothing of the kind. */
export function valueOf(key: HashKey, request: RequestHead, sourceIp: string): string | undefined {
  switch (key.kind) {
    case 'header':
      return requestField(request, request.path, key.name.toLowerCase())[0];
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

/** The cookie by which the next requests of this client are known; never to be read by scripts. */
export function setCookie(
  { name, path, ttlSeconds = 0, attributes = [] }: Extract<HashKey, { kind: 'cookie' }>,
  value: string,
): string {
  return [
    `${name}=${value}`,
    `Path=${path}`,
    ...(ttlSeconds > 0 ? [`Max-Age=${ttlSeconds}`] : []),
    ...attributes.map(([attribute, of]) => (of === '' ? attribute : `${attribute}=${of}`)),
    'HttpOnly',
  ].join('; ');
}

/** Of a connection of which only bytes are known there is nothing to hash but where it comes from. */
export function hashOfSource({ balancing }: TrafficSettings, sourceIp: string): number | undefined {
  const hashes = balancing.kind === 'ring-hash' || balancing.kind === 'maglev';
  return hashes && balancing.key.kind === 'source-ip' ? hashOf(sourceIp) : undefined;
}

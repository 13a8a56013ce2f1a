import type { Decoder } from './decode.ts';
import { boolean, list, number, object, text, union } from './decode.ts';
import { clause, policyTarget } from './decode-nouns.ts';
import type { RateLimit, RateLimitKey, RateLimitPolicy } from './rate-limit.ts';

const key: Decoder<RateLimitKey> = union<RateLimitKey>('kind', {
  none: object(() => ({ kind: 'none' })),
  'client-identity': object(() => ({ kind: 'client-identity' })),
  'source-namespace': object(() => ({ kind: 'source-namespace' })),
  'remote-address': object(() => ({ kind: 'remote-address' })),
  header: object((f) => ({ kind: 'header', name: f.get('name', text) })),
});

const limit: Decoder<RateLimit> = object((f) => ({
  name: f.get('name', text),
  when: f.get('when', clause),
  routes: f.get('routes', list(text)),
  key: f.get('key', key),
  requests: f.get('requests', number),
  perMs: f.get('perMs', number),
  burst: f.get('burst', number),
}));

export const decodeRateLimitPolicy: Decoder<RateLimitPolicy> = object((f) => ({
  name: f.get('name', text),
  namespace: f.get('namespace', text),
  targets: f.get('targets', list(policyTarget)),
  dryRun: f.get('dryRun', boolean),
  limits: f.get('limits', list(limit)),
}));

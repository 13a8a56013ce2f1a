import type { Static } from 'typebox';
import { Type } from 'typebox';

import type { ResourceDefinition } from './crd.ts';
import { many, part, text, texts, whole } from './shape.ts';

const targetRef = part({ group: text, kind: text, name: text, namespace: text });

const limit = part({
  name: Type.String({ minLength: 1, maxLength: 63, description: 'Shown where it refuses.' }),
  match: Type.Optional(
    part({
      paths: texts,
      methods: texts,
      headers: many(part({ name: Type.String({ minLength: 1 }), values: texts }), 16),
      routes: texts,
    }),
  ),
  key: Type.Optional(
    part({
      type: Type.Optional(
        Type.Enum(['None', 'ClientIdentity', 'SourceNamespace', 'RemoteAddress', 'Header'], {
          description: 'What requests that share the limit have in common; None when absent.',
        }),
      ),
      header: text,
    }),
  ),
  requests: Type.Integer({ minimum: 1, maximum: 1_000_000_000 }),
  per: Type.Enum(['1s', '1m', '1h']),
  burst: whole,
});

/** `spec` of ambit.dev RateLimitPolicy. */
export const rateLimitPolicySpec = Type.Object(
  { targetRefs: many(targetRef, 16), limits: many(limit, 32) },
  { additionalProperties: false, description: 'How many requests waypoints let through.' },
);
export type RateLimitPolicySpec = Static<typeof rateLimitPolicySpec>;
export type RateLimitSpec = Static<typeof limit>;

export const rateLimitPolicyResource: ResourceDefinition = {
  group: 'ambit.dev',
  kind: 'RateLimitPolicy',
  plural: 'ratelimitpolicies',
  singular: 'ratelimitpolicy',
  shortNames: ['rlp'],
  categories: ['ambit'],
  versions: ['v1alpha1'],
  spec: rateLimitPolicySpec,
  rules: [
    {
      rule: "!has(self.limits) || self.limits.all(one, !has(one.key) || !has(one.key.type) || one.key.type != 'Header' || has(one.key.header))",
      message: 'limits[].key of type Header needs the name of the header in limits[].key.header',
    },
  ],
  columns: [],
};

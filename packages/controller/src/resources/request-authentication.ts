import type { Static } from 'typebox';
import { Type } from 'typebox';

import type { ResourceDefinition } from './crd.ts';
import { oneTarget } from './crd.ts';
import { workloadSelector } from './selector.ts';
import { duration, flag, many, part, text, texts } from './shape.ts';

const targetRef = part({ group: text, kind: text, name: text, namespace: text });

const jwtRule = part({
  issuer: text,
  audiences: texts,
  jwksUri: text,
  jwks_uri: text,
  jwks: text,
  fromHeaders: many(part({ name: text, prefix: text })),
  fromParams: texts,
  fromCookies: texts,
  outputPayloadToHeader: text,
  forwardOriginalToken: flag,
  outputClaimToHeaders: many(part({ header: text, claim: text })),
  timeout: duration,
  spaceDelimitedClaims: texts,
});

/** `spec` of security.istio.io RequestAuthentication, as its public API reference has it. */
export const requestAuthenticationSpec = Type.Object(
  {
    selector: Type.Optional(workloadSelector),
    targetRef: Type.Optional(targetRef),
    targetRefs: many(targetRef, 16),
    jwtRules: many(jwtRule),
  },
  { additionalProperties: false, description: 'Which tokens of requests are taken.' },
);
export type RequestAuthenticationSpec = Static<typeof requestAuthenticationSpec>;
export type JwtRuleSpec = Static<typeof jwtRule>;

/** Istio's node proxies leave such ones aside as well, and its waypoints take `targetRefs` only. */
export const selectsNothing =
  'selects no waypoint, and nobody else verifies tokens: nothing is verified for it; name a Service or Gateway in targetRefs';

export const requestAuthenticationResource: ResourceDefinition = {
  group: 'security.istio.io',
  kind: 'RequestAuthentication',
  plural: 'requestauthentications',
  singular: 'requestauthentication',
  shortNames: ['ra'],
  categories: ['istio-io', 'security-istio-io'],
  versions: ['v1', 'v1beta1'],
  spec: requestAuthenticationSpec,
  rules: [oneTarget],
  columns: [],
  refused: new Map([['jwtRules[].jwks_uri', 'is an old spelling; use jwksUri']]),
  refusedInPart: new Map([['selector', selectsNothing]]),
};

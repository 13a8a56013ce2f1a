import type { RequestAuthentication } from '@ambit/api';
import { decodeAuthentication, defaultTraffic, noChanges } from '@ambit/api';
import { decoded } from '@ambit/testkit';
import { shopKey } from './world.ts';

type Fields = Readonly<Record<string, unknown>>;

/** Subsets `v1` and `v2` of the shop by their label. */
export const subsets = {
  service: shopKey,
  policy: defaultTraffic,
  subsets: ['v1', 'v2'].map((name) => ({
    name,
    labels: [['version', name]],
    policy: defaultTraffic,
  })),
};

export function to(subset: string, more: Fields = {}): Fields {
  return {
    weight: 100,
    target: { kind: 'service', service: shopKey, port: 80, subset },
    request: noChanges,
    response: noChanges,
    ...more,
  };
}

export const nowhere = {
  weight: 1,
  target: { kind: 'missing', why: 'nobody' },
  request: noChanges,
  response: noChanges,
};

export function match(fields: Fields = {}): Fields {
  return {
    ignorePathCase: false,
    headers: [],
    withoutHeaders: [],
    query: [],
    sourceLabels: [],
    ...fields,
  };
}

export function forward(...targets: Fields[]): Fields {
  return { kind: 'forward', targets, rewrite: {} };
}

export function route(fields: Fields = {}): Record<string, unknown> {
  return {
    name: 'VirtualService/test/shop',
    matches: [],
    action: forward(to('v1')),
    request: noChanges,
    response: noChanges,
    fault: {},
    mirrors: [],
    ...fields,
  };
}

export const exact = (value: string): Fields => ({ kind: 'exact', value });
export const prefix = (value: string): Fields => ({ kind: 'prefix', value });
export const regex = (value: string): Fields => ({ kind: 'regex', value });
export const present = { kind: 'present' };

/** A RequestAuthentication of the shop with one rule for tokens of `me`. */
export function anAuthentication(rule: Fields, fields: Fields = {}): RequestAuthentication {
  return decoded(decodeAuthentication, {
    name: 'jwt',
    namespace: 'test',
    targets: [{ kind: 'service', service: shopKey }],
    broken: false,
    rules: [
      {
        issuer: 'me',
        audiences: [],
        from: [],
        forwardOriginalToken: false,
        spaceDelimitedClaims: [],
        outputClaimsToHeaders: [],
        ...rule,
      },
    ],
    ...fields,
  });
}

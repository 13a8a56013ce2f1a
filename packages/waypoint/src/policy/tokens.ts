import type { JwtRule, PolicyTarget, RequestAuthentication, TokenLocation } from '@ambit/api';
import type { MeshState, VerifiedToken } from '@ambit/core';
import type { RequestHead } from '../http/message.ts';
import type { JwksSource } from './jwks.ts';
import type { GoodToken } from './jwt.ts';
import { verifyTokens } from './jwt.ts';
import { outputsOf } from './spoken.ts';
import { withoutParams } from './token-params.ts';

/** A request before its token was taken away, and by what it was verified: to be verified again when that changes. */
export interface Presented {
  readonly request: RequestHead;
  readonly held: readonly (RequestAuthentication | 'undecodable')[];
}

/** What became of the token of a request. */
export type TokenOutcome =
  | { readonly kind: 'none'; readonly presented?: Presented }
  | { readonly kind: 'valid'; readonly presented: Presented; readonly token: VerifiedToken }
  | { readonly kind: 'invalid'; readonly message: string };

export interface TokenVerifier {
  /**
   * Verifies the request's token and changes its fields as the rules say (forwarding, claims). `atMs` is the time by
   * which it may not be over yet; now when absent. `asCame` is the request before an earlier verification, which may
   * have taken the token away.
   */
  verify(
    targets: readonly PolicyTarget[],
    request: RequestHead,
    atMs?: number,
    asCame?: RequestHead,
  ): Promise<TokenOutcome>;
  close(): void;
}

export function createTokenVerifier(
  state: MeshState,
  jwks: JwksSource,
  nowMs = Date.now,
): TokenVerifier {
  return {
    async verify(targets, request, atMs = nowMs(), asCame = request) {
      const found = state.authenticationsForTargets(targets);
      const rules: JwtRule[] = [];
      for (const one of found) {
        // What it would have demanded is not known.
        if (one === 'undecodable' || one.broken)
          return { kind: 'invalid', message: 'RequestAuthentication cannot be read' };
        rules.push(...one.rules);
      }
      const presented: Presented = { request: copyOf(asCame), held: found };
      // Whoever sends what only a verified token may say is found out before it could be believed.
      for (const name of rules.flatMap(outputsOf)) request.headers.delete(name);
      const verified = await verifyTokens(rules, asCame, jwks, atMs);
      if (!verified.ok) return { kind: 'invalid', message: verified.error };
      for (const good of verified.value) handOn(good, request);
      const [first] = verified.value;
      return first === undefined
        ? { kind: 'none', presented }
        : { kind: 'valid', presented, token: first.token };
    },
    close: () => jwks.close(),
  };
}

/** Of which nothing is shared that a verification may change. */
export function copyOf(request: RequestHead): RequestHead {
  return { ...request, headers: request.headers.clone() };
}

function handOn({ rule, claims, locations, payload }: GoodToken, request: RequestHead): void {
  if (!rule.forwardOriginalToken) {
    for (const location of locations) takeAway(location, request);
  }
  if (rule.outputPayloadToHeader !== undefined)
    request.headers.set(rule.outputPayloadToHeader, payload);
  for (const { header, claim } of rule.outputClaimsToHeaders) {
    let value: unknown = claims;
    for (const name of claim) {
      value =
        typeof value === 'object' && value !== null && Object.hasOwn(value, name)
          ? (value as Readonly<Record<string, unknown>>)[name]
          : undefined;
    }
    const isPlain =
      typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
    // A claim is anybody's text: it may not end the line it is written on.
    if (isPlain && /^[\t\x20-\x7e]*$/.test(String(value)))
      request.headers.set(header, String(value));
  }
}

function takeAway(location: TokenLocation, request: RequestHead): void {
  switch (location.kind) {
    case 'header':
      request.headers.delete(location.name);
      return;
    case 'query':
      request.path = withoutParams(request.path, (name) => name === location.name);
      return;
    case 'cookie': {
      const lines = request.headers.all('cookie').flatMap((line) => line.split(';'));
      const left = lines
        .map((pair) => pair.trim())
        .filter((pair) => !pair.startsWith(`${location.name}=`));
      request.headers.delete('cookie');
      if (left.length > 0) request.headers.append('cookie', left.join('; '));
    }
  }
}

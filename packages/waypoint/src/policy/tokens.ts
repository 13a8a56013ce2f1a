import type { PolicyTarget } from '@ambit/api';
import type { MeshState, VerifiedToken } from '@ambit/core';
import type { RequestHead } from '../http/message.ts';

/** What became of the token of a request. */
export type TokenOutcome =
  | { readonly kind: 'none' }
  | { readonly kind: 'valid'; readonly token: VerifiedToken }
  | { readonly kind: 'invalid'; readonly message: string };

export interface TokenVerifier {
  /** True when some RequestAuthentication holds here, so that a token has to be looked at. */
  concerns(targets: readonly PolicyTarget[]): boolean;
  /** Verifies the request's token and changes its fields as the rules say (forwarding, claims). */
  verify(targets: readonly PolicyTarget[], request: RequestHead): Promise<TokenOutcome>;
  close(): void;
}

/** For a state in which nobody has asked for tokens, and for tests. */
export function noTokens(state: MeshState): TokenVerifier {
  return {
    concerns: (targets) => state.authenticationsForTargets(targets).length > 0,
    verify: () => Promise.resolve({ kind: 'invalid', message: 'tokens cannot be verified' }),
    close: () => undefined,
  };
}

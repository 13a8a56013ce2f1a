import type { PolicyTarget } from './policy.ts';

/** Where a token stands in a request. */
export type TokenLocation =
  | { readonly kind: 'header'; readonly name: string; readonly prefix: string }
  | { readonly kind: 'query' | 'cookie'; readonly name: string };

export interface JwtRule {
  /** Empty: any issuer whose tokens the keys verify. */
  readonly issuer: string;
  /** Empty: any audience. */
  readonly audiences: readonly string[];
  readonly keys:
    | { readonly kind: 'inline'; readonly jwks: string }
    | { readonly kind: 'remote'; readonly uri: string; readonly timeoutMs: number }
    /** Nothing that could verify a token: every token of this issuer is refused. */
    | { readonly kind: 'none'; readonly why: string };
  readonly from: readonly TokenLocation[];
  readonly forwardOriginalToken: boolean;
  /** Claims whose text is a list of words, for example `scope`. */
  readonly spaceDelimitedClaims: readonly string[];
  readonly outputPayloadToHeader?: string;
  readonly outputClaimsToHeaders: readonly {
    readonly header: string;
    readonly claim: readonly string[];
  }[];
}

/** Which tokens a waypoint takes (RequestAuthentication). A request without a token passes; policies ask for one. */
export interface RequestAuthentication {
  readonly name: string;
  readonly namespace: string;
  readonly targets: readonly PolicyTarget[];
  readonly rules: readonly JwtRule[];
  /** It could not be read, so that nobody knows what it would have demanded: every request is refused. */
  readonly broken: boolean;
}

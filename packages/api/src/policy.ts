import type { Cidr, Port } from './address.ts';
import type { Brand } from './brand.ts';
import type { ServiceKey } from './hostname.ts';

/** `<namespace>/<name>` of an AuthorizationPolicy. */
export type PolicyKey = Brand<string, 'PolicyKey'>;

export type PolicyAction = 'ALLOW' | 'DENY' | 'AUDIT' | 'CUSTOM';

/** What a policy of waypoints and gateways is attached to. */
export type PolicyTarget =
  | { readonly kind: 'service'; readonly service: ServiceKey }
  | { readonly kind: 'gateway'; readonly namespace: string; readonly name: string }
  | { readonly kind: 'service-entry'; readonly namespace: string; readonly name: string }
  | { readonly kind: 'gateway-class'; readonly name: string };

/**
 * Whom a policy holds for. A `selected` one holds for the workloads that list it in `policies`; a `targeted` one is
 * for the waypoints and gateways that serve its targets, and no business of a node proxy.
 */
export type PolicyScope =
  | { readonly kind: 'mesh' }
  | { readonly kind: 'namespace' }
  | { readonly kind: 'selected' }
  | { readonly kind: 'targeted'; readonly targets: readonly PolicyTarget[] };

/** Istio's string forms: `x`, `x*`, `*x` and `*` (present and not empty). */
export type StringPattern =
  | { readonly kind: 'exact' | 'prefix' | 'suffix'; readonly value: string }
  /** A path with `{*}` for one segment and, at its end, `{**}` for any number of them. */
  | { readonly kind: 'template'; readonly value: string }
  | { readonly kind: 'presence' };

/** Attributes of a connection that are matched as strings. */
export type ConnectionAttribute =
  | 'source.principal' // trust-domain/ns/NAMESPACE/sa/SERVICE-ACCOUNT, without spiffe://
  | 'source.namespace'
  | 'source.serviceAccount' // NAMESPACE/SERVICE-ACCOUNT
  | 'connection.sni';

/** Attributes of an HTTP request; only a waypoint or gateway knows them. */
export type RequestAttribute =
  | { readonly kind: 'host' | 'method' | 'path' | 'requestPrincipal' | 'audiences' | 'presenter' }
  | { readonly kind: 'header'; readonly name: string }
  | { readonly kind: 'claim'; readonly path: readonly string[] };

/**
 * One condition. It holds when some value matches (or `values` is empty) and no `notValues` entry does.
 * L4 and L7 are one union, so that a proxy that cannot see an attribute knows that it cannot.
 */
export type Match =
  | {
      readonly kind: 'connection';
      readonly attribute: ConnectionAttribute;
      readonly values: readonly StringPattern[];
      readonly notValues: readonly StringPattern[];
    }
  | {
      readonly kind: 'address';
      /** `remote` is the original client where a trusted hop tells it; at L4 it equals `source`. */
      readonly attribute: 'source.ip' | 'remote.ip' | 'destination.ip';
      readonly values: readonly Cidr[];
      readonly notValues: readonly Cidr[];
    }
  | {
      readonly kind: 'port';
      readonly attribute: 'destination.port';
      readonly values: readonly Port[];
      readonly notValues: readonly Port[];
    }
  | {
      readonly kind: 'request';
      readonly attribute: RequestAttribute;
      readonly values: readonly StringPattern[];
      readonly notValues: readonly StringPattern[];
    };

/** All of the matches must hold. */
export type Clause = readonly Match[];

/** Some clause of `from`, some clause of `to` and all of `when` must hold; an empty list always holds. */
export interface Rule {
  readonly from: readonly Clause[];
  readonly to: readonly Clause[];
  readonly when: Clause;
}

export interface AuthorizationPolicy {
  readonly name: string;
  readonly namespace: string;
  readonly action: PolicyAction;
  /** Of a CUSTOM policy: the external authorizer that is asked, by its name in the mesh's providers. */
  readonly provider?: string;
  readonly scope: PolicyScope;
  /** Evaluated, counted and logged, but not enforced. */
  readonly dryRun: boolean;
  /** No rule never matches: an ALLOW policy without rules allows nothing. */
  readonly rules: readonly Rule[];
}

export function policyKey(namespace: string, name: string): PolicyKey {
  return `${namespace}/${name}` as PolicyKey;
}

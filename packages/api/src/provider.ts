import type { Port } from './address.ts';
import type { Hostname } from './hostname.ts';

/** Where a provider is reached: a service of the mesh, or a name that DNS knows. */
export interface ProviderAddress {
  readonly host: Hostname;
  readonly port: Port;
  /** Of the service, where several have one of this host; otherwise the first by namespace is asked. */
  readonly namespace?: string;
}

interface Named {
  /** What policies and Telemetry resources call it. */
  readonly name: string;
}

/** What an external authorizer is sent of a request's body; absent for nothing of it. */
export interface CheckedBody {
  readonly maxBytes: number;
  /** A longer body is checked by its beginning; otherwise it is refused with 413. */
  readonly allowPartial: boolean;
  readonly packAsBytes: boolean;
}

interface Authorizer extends Named {
  readonly address: ProviderAddress;
  readonly timeoutMs: number;
  /** Whether requests pass while the authorizer cannot be asked, because the owner said so. */
  readonly failOpen: boolean;
  /** What the client is told when it cannot be asked; 403 by default. */
  readonly statusOnError: number;
  readonly body?: CheckedBody;
}

/** Names of fields are lower case; `*` at the end or start of one stands for any text (Istio's header lists). */
export type FieldPatterns = readonly string[];

/**
 * What proxies call besides the services of the mesh (MeshConfig.extensionProviders, Istio's public API reference).
 */
export type ExtensionProvider =
  | (Authorizer & {
      readonly kind: 'ext-authz-http';
      readonly pathPrefix: string;
      /** Fields of the request that the check carries, besides host, method, path, content-length and authorization. */
      readonly includeRequestHeaders: FieldPatterns;
      readonly additionalHeaders: readonly (readonly [name: string, value: string])[];
      readonly headersToUpstreamOnAllow: FieldPatterns;
      readonly headersToDownstreamOnDeny: FieldPatterns;
      readonly headersToDownstreamOnAllow: FieldPatterns;
    })
  | (Authorizer & { readonly kind: 'ext-authz-grpc' })
  | (Named & {
      readonly kind: 'opentelemetry';
      readonly address: ProviderAddress;
      /** OTLP over HTTP (protobuf or JSON) at this path, or over gRPC where absent. */
      readonly http?: {
        readonly path: string;
        readonly timeoutMs: number;
        readonly headers: readonly (readonly [name: string, value: string])[];
      };
      readonly maxTagLength: number;
    })
  | (Named & {
      readonly kind: 'zipkin';
      readonly address: ProviderAddress;
      readonly path: string;
      readonly maxTagLength: number;
    })
  | (Named & {
      readonly kind: 'access-log';
      readonly path: string;
      readonly format: AccessLogFormat;
    })
  | (Named & { readonly kind: 'prometheus' });

/** Envoy's command operators in a text, or in the values of a JSON object. Istio's own text where both are absent. */
export type AccessLogFormat =
  | { readonly kind: 'default-text' }
  | { readonly kind: 'text'; readonly text: string }
  /** Istio's own fields where there are none. */
  | { readonly kind: 'json'; readonly fields: readonly (readonly [name: string, value: string])[] };

/** Providers that are used where no Telemetry resource says otherwise (MeshConfig.defaultProviders). */
export interface DefaultProviders {
  readonly metrics: readonly string[];
  readonly accessLogging: readonly string[];
  readonly tracing: readonly string[];
}

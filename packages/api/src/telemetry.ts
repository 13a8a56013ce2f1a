import type { PolicyTarget } from './policy.ts';

/** Metrics by the names that Telemetry resources use (telemetry.istio.io, MetricSelector.IstioMetric). */
export const metricNames = [
  'REQUEST_COUNT',
  'REQUEST_DURATION',
  'REQUEST_SIZE',
  'RESPONSE_SIZE',
  'TCP_OPENED_CONNECTIONS',
  'TCP_CLOSED_CONNECTIONS',
  'TCP_SENT_BYTES',
  'TCP_RECEIVED_BYTES',
  'GRPC_REQUEST_MESSAGES',
  'GRPC_RESPONSE_MESSAGES',
] as const;
export type MetricName = (typeof metricNames)[number];

export interface TagOverride {
  readonly name: string;
  /** An expression for its value; absent where the tag is removed. */
  readonly value?: string;
}

export interface MetricsOverride {
  readonly metrics: readonly MetricName[];
  /** Absent: as it was. */
  readonly disabled?: boolean;
  readonly tags: readonly TagOverride[];
}

/** Rules name providers of the mesh; one that names none is for those that held before it. */
export interface MetricsRule {
  readonly providers: readonly string[];
  readonly overrides: readonly MetricsOverride[];
}

export interface AccessLogRule {
  readonly providers: readonly string[];
  readonly disabled: boolean;
  /** An expression that an event must satisfy to be logged. */
  readonly filter?: string;
}

export type CustomTag =
  | { readonly kind: 'literal'; readonly name: string; readonly value: string }
  | {
      readonly kind: 'header' | 'environment';
      readonly name: string;
      /** Of the header or variable. */
      readonly from: string;
      readonly fallback: string;
    }
  /** A format of the access log. */
  | { readonly kind: 'format'; readonly name: string; readonly format: string };

export interface TracingRule {
  readonly providers: readonly string[];
  /** 0 to 100. */
  readonly samplingPercent?: number;
  readonly disabled?: boolean;
  /** Takes the place of those that held before. */
  readonly customTags?: readonly CustomTag[];
  readonly istioTags?: boolean;
}

/** What is told of traffic, and where (Telemetry), as far as it concerns servers: a waypoint counts as one. */
export interface Telemetry {
  readonly name: string;
  readonly namespace: string;
  /** Milliseconds since 1970: of two for the same, the older is heard first. */
  readonly createdAtMs: number;
  readonly scope:
    | { readonly kind: 'namespace' }
    | { readonly kind: 'targeted'; readonly targets: readonly PolicyTarget[] };
  readonly metrics: readonly MetricsRule[];
  readonly accessLogs: readonly AccessLogRule[];
  readonly tracing: readonly TracingRule[];
}

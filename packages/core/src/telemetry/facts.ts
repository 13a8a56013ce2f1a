import type { Service, Workload } from '@ambit/api';
import type { AccessEntry } from './access-entry.ts';

/** Everything that is known of a request or connection when it is over; what filters and tags may ask of. */
export interface TelemetryFacts extends AccessEntry {
  readonly scheme: string;
  requestHeaders(): Iterable<readonly [name: string, value: string]>;
  responseHeaders(): Iterable<readonly [name: string, value: string]>;
  /** Of gRPC; empty for anything else. */
  readonly grpcStatus: string;
  readonly source: Workload | undefined;
  readonly destination: Workload | undefined;
  readonly service: Service | undefined;
}

export const unknown = 'unknown';

/** The `app` of metrics: the labels that Istio looks at, in its order. */
export function appOf({ labels, canonicalName }: Workload): string {
  return label(labels, 'app') ?? label(labels, 'app.kubernetes.io/name') ?? canonicalName;
}

export function versionOf({ labels, canonicalRevision }: Workload): string {
  return label(labels, 'version') ?? canonicalRevision;
}

function label(labels: Workload['labels'], name: string): string | undefined {
  return labels.find(([one]) => one === name)?.[1];
}

export function principalOf({ trustDomain, namespace, serviceAccount }: Workload): string {
  return `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
}

import type { TrustDomain } from '@ambit/api';

export interface ControllerConfig {
  /** Path of a kubeconfig; absent in a pod, whose own service account is then used. */
  readonly kubeconfig: string | undefined;
  readonly rootNamespace: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  readonly trustDomain: TrustDomain;
  readonly trustDomainAliases: readonly TrustDomain[];
  readonly host: string;
  readonly controlPort: number;
  readonly metricsPort: number;
  readonly certificateTtlMs: number;
  /** `<namespace>/<service account>` of the node proxies. */
  readonly trustedNodeAccounts: ReadonlySet<string>;
  readonly debounceQuietMs: number;
  readonly debounceMaxMs: number;
  /** More names for the certificate of the control port. */
  readonly servingNames: readonly string[];
  readonly logLevel: string;
}

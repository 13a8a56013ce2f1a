import type { TrustDomain } from './identity.ts';
import type { DefaultProviders, ExtensionProvider } from './provider.ts';

/** What holds for the whole mesh; pushed as the one resource of type `mesh`, named `default`. */
export interface MeshSettings {
  readonly trustDomain: TrustDomain;
  /** Other trust domains whose identities are accepted as our own. */
  readonly trustDomainAliases: readonly TrustDomain[];
  /** PEM of every root that may sign a peer's certificate: more than one while roots are rotated. */
  readonly roots: readonly string[];
  readonly clusterId: string;
  readonly rootNamespace: string;
  readonly providers: readonly ExtensionProvider[];
  readonly defaultProviders: DefaultProviders;
  /** Share of requests that are traced where nobody says otherwise, 0 to 100. */
  readonly traceSamplingPercent: number;
}

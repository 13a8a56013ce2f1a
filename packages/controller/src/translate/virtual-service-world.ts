import type { Port, ServiceKey } from '@ambit/api';

import type { VirtualServiceRecord } from '../kube/decode/configuration.ts';
import type { HostResolver, ServiceName } from './istio-host.ts';

/** What a VirtualService needs to know of the rest of the mesh. */
export interface VirtualServiceWorld {
  readonly clusterDomain: string;
  readonly rootNamespace: string;
  /** The service that a host means; of the cluster's alone where absent. */
  readonly host?: HostResolver;
  /** The ports of a Service; undefined when there is none. */
  ports(service: ServiceName): readonly Port[] | undefined;
  /** Those of them that say that they carry no HTTP. */
  unseen?(service: ServiceName): readonly Port[];
  /** Whether a DestinationRule defines a subset of the name for it. */
  hasSubset(service: ServiceName, name: string): boolean;
  delegate(namespace: string, name: string): VirtualServiceRecord | undefined;
  /** What is wrong with a regular expression of RE2, if anything. */
  regexProblem(pattern: string): string | undefined;
  /** The route of the Gateway API that is heard instead for a service, if there is one. */
  insteadOf(service: ServiceKey): string | undefined;
}

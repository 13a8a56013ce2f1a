import { authorizationPolicyResource } from './authorization-policy.ts';
import type { CustomResourceDefinition, ResourceDefinition } from './crd.ts';
import { crdOf } from './crd.ts';
import { destinationRuleResource } from './destination-rule.ts';
import {
  grpcRouteResource,
  httpRouteResource,
  referenceGrantResource,
  tcpRouteResource,
  tlsRouteResource,
} from './gateway-api.ts';
import { gatewayClassResource, gatewayResource } from './gateway.ts';
import { peerAuthenticationResource } from './peer-authentication.ts';
import { rateLimitPolicyResource } from './rate-limit-policy.ts';
import { requestAuthenticationResource } from './request-authentication.ts';
import { serviceEntryResource, workloadEntryResource } from './service-entry.ts';
import { telemetryResource } from './telemetry.ts';
import { virtualServiceResource } from './virtual-service.ts';

/** Every custom resource that the controller reads. */
export const resources: readonly ResourceDefinition[] = [
  peerAuthenticationResource,
  authorizationPolicyResource,
  requestAuthenticationResource,
  virtualServiceResource,
  destinationRuleResource,
  serviceEntryResource,
  workloadEntryResource,
  telemetryResource,
  gatewayResource,
  gatewayClassResource,
  httpRouteResource,
  grpcRouteResource,
  tcpRouteResource,
  tlsRouteResource,
  referenceGrantResource,
  rateLimitPolicyResource,
];

/** The CustomResourceDefinitions of every custom resource that the controller reads. */
export function crds(): CustomResourceDefinition[] {
  return resources.map(crdOf);
}

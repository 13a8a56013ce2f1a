import { authorizationPolicyResource } from './authorization-policy.ts';
import type { CustomResourceDefinition, ResourceDefinition } from './crd.ts';
import { crdOf } from './crd.ts';
import { peerAuthenticationResource } from './peer-authentication.ts';

/** Every custom resource that the controller reads. */
export const resources: readonly ResourceDefinition[] = [
  peerAuthenticationResource,
  authorizationPolicyResource,
];

/** The CustomResourceDefinitions of every custom resource that the controller reads. */
export function crds(): CustomResourceDefinition[] {
  return resources.map(crdOf);
}

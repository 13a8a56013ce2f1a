import { gatewayManagedLabel, ok } from '@ambit/api';

import type { Decode } from '../cache.ts';
import { field, list, text } from './fields.ts';

/** Value of `gateway.istio.io/managed` on everything that is deployed for a Gateway. */
export const managedBy = 'ambit.dev-mesh-controller';

/** The same of what Istio deployed. */
const managedByIstio = 'istio.io-mesh-controller';

/** The uid of the Gateway for which an object was deployed; undefined for what is anybody else's. */
export function gatewayUidOf(object: unknown): string | undefined {
  return ownerOf(object, managedBy);
}

/** The uid of the Gateway for which Istio deployed an object. */
export function istioGatewayUidOf(object: unknown): string | undefined {
  return ownerOf(object, managedByIstio);
}

function ownerOf(object: unknown, manager: string): string | undefined {
  if (field(object, 'metadata', 'labels', gatewayManagedLabel) !== manager) return undefined;
  const owner = list(field(object, 'metadata', 'ownerReferences')).find(
    (one) =>
      field(one, 'kind') === 'Gateway' &&
      text(field(one, 'apiVersion')).startsWith('gateway.networking.k8s.io/'),
  );
  const uid = text(field(owner, 'uid'));
  return uid === '' ? undefined : uid;
}

/** A ServiceAccount that was deployed for a Gateway; of others nothing is known. */
export interface GatewayAccountRecord {
  readonly gatewayUid: string;
  readonly createdAtMs: number;
}

export const decodeGatewayAccount: Decode<GatewayAccountRecord> = (object, { createdAtMs }) =>
  ok({ gatewayUid: gatewayUidOf(object) ?? '', createdAtMs });

/** A Deployment that was made for a Gateway; that it is there is all that is known of it. */
export interface GatewayDeploymentRecord {
  readonly gatewayUid: string;
}

export const decodeGatewayDeployment: Decode<GatewayDeploymentRecord> = (object) =>
  ok({ gatewayUid: gatewayUidOf(object) ?? '' });

import {
  decodeDestinationRule,
  decodeHttpRoute,
  decodeReferenceGrant,
  decodeServiceEntry,
  decodeTelemetry,
  decodeVirtualService,
  decodeWorkloadEntry,
} from './configuration.ts';
import { decodeEndpointSlice } from './endpoint-slice.ts';
import { decodeMetadata } from './fields.ts';
import { decodePod } from './pod.ts';
import { decodeAuthorizationPolicy, decodePeerAuthentication } from './policy.ts';
import { decodeService } from './service.ts';

/** For whoever compiles without an API. */
export const decode = {
  metadata: decodeMetadata,
  pod: decodePod,
  service: decodeService,
  endpointSlice: decodeEndpointSlice,
  authorizationPolicy: decodeAuthorizationPolicy,
  peerAuthentication: decodePeerAuthentication,
  telemetry: decodeTelemetry,
  virtualService: decodeVirtualService,
  destinationRule: decodeDestinationRule,
  serviceEntry: decodeServiceEntry,
  workloadEntry: decodeWorkloadEntry,
  httpRoute: decodeHttpRoute,
  referenceGrant: decodeReferenceGrant,
} as const;

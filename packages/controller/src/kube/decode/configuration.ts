import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';

import type { DestinationRuleSpec } from '../../resources/destination-rule.ts';
import { destinationRuleResource } from '../../resources/destination-rule.ts';
import type {
  GrpcRouteSpec,
  HttpRouteSpec,
  ReferenceGrantSpec,
  TcpRouteSpec,
  TlsRouteSpec,
} from '../../resources/gateway-api.ts';
import {
  grpcRouteResource,
  httpRouteResource,
  referenceGrantResource,
  tcpRouteResource,
  tlsRouteResource,
} from '../../resources/gateway-api.ts';
import type { GatewayClassSpec, GatewaySpec } from '../../resources/gateway.ts';
import { gatewayClassResource, gatewayResource } from '../../resources/gateway.ts';
import type { ResourceDefinition } from '../../resources/crd.ts';
import { refusedFields, schemaProblems } from '../../resources/crd.ts';
import type { RateLimitPolicySpec } from '../../resources/rate-limit-policy.ts';
import { rateLimitPolicyResource } from '../../resources/rate-limit-policy.ts';
import type { RequestAuthenticationSpec } from '../../resources/request-authentication.ts';
import { requestAuthenticationResource } from '../../resources/request-authentication.ts';
import type { ServiceEntrySpec, WorkloadEntrySpec } from '../../resources/service-entry.ts';
import { serviceEntryResource, workloadEntryResource } from '../../resources/service-entry.ts';
import type { TelemetrySpec } from '../../resources/telemetry.ts';
import { telemetryResource } from '../../resources/telemetry.ts';
import type { VirtualServiceSpec } from '../../resources/virtual-service.ts';
import { virtualServiceResource } from '../../resources/virtual-service.ts';
import type { Decode } from '../cache.ts';
import type { Metadata, Problem } from './fields.ts';
import { field, objectKey } from './fields.ts';

/**
 * A resource that configures traffic. One whose spec breaks the schema is kept without it, so that its owner is told;
 * `problems` also names the fields that are known and not done.
 */
export interface ConfigurationRecord<S> {
  readonly meta: Metadata;
  /** Where it breaks the schema, as it was written. */
  readonly spec: Result<S, unknown>;
  readonly problems: readonly Problem[];
  /** `status` as it stands. */
  readonly status: unknown;
}

export type VirtualServiceRecord = ConfigurationRecord<VirtualServiceSpec>;
export type DestinationRuleRecord = ConfigurationRecord<DestinationRuleSpec>;
export type RateLimitPolicyRecord = ConfigurationRecord<RateLimitPolicySpec>;
export type RequestAuthenticationRecord = ConfigurationRecord<RequestAuthenticationSpec>;
export type TelemetryRecord = ConfigurationRecord<TelemetrySpec>;
export type GatewayRecord = ConfigurationRecord<GatewaySpec>;

export type ServiceEntryRecord = ConfigurationRecord<ServiceEntrySpec>;
export type WorkloadEntryRecord = ConfigurationRecord<WorkloadEntrySpec>;

export const decodeServiceEntry: Decode<ServiceEntryRecord> = decoder(serviceEntryResource);
export const decodeWorkloadEntry: Decode<WorkloadEntryRecord> = decoder(workloadEntryResource);
export const decodeVirtualService: Decode<VirtualServiceRecord> = decoder(virtualServiceResource);
export const decodeDestinationRule: Decode<DestinationRuleRecord> =
  decoder(destinationRuleResource);
export const decodeRateLimitPolicy: Decode<RateLimitPolicyRecord> =
  decoder(rateLimitPolicyResource);
export const decodeRequestAuthentication: Decode<RequestAuthenticationRecord> = decoder(
  requestAuthenticationResource,
);
export const decodeTelemetry: Decode<TelemetryRecord> = decoder(telemetryResource);
export const decodeGateway: Decode<GatewayRecord> = decoder(gatewayResource);
export type GatewayClassRecord = ConfigurationRecord<GatewayClassSpec>;
export const decodeGatewayClass: Decode<GatewayClassRecord> = decoder(gatewayClassResource);
export type HttpRouteRecord = ConfigurationRecord<HttpRouteSpec>;
export type GrpcRouteRecord = ConfigurationRecord<GrpcRouteSpec>;
export type TcpRouteRecord = ConfigurationRecord<TcpRouteSpec>;
export type TlsRouteRecord = ConfigurationRecord<TlsRouteSpec>;
export type ReferenceGrantRecord = ConfigurationRecord<ReferenceGrantSpec>;

export const decodeHttpRoute: Decode<HttpRouteRecord> = decoder(httpRouteResource);
export const decodeGrpcRoute: Decode<GrpcRouteRecord> = decoder(grpcRouteResource);
export const decodeTcpRoute: Decode<TcpRouteRecord> = decoder(tcpRouteResource);
export const decodeTlsRoute: Decode<TlsRouteRecord> = decoder(tlsRouteResource);
export const decodeReferenceGrant: Decode<ReferenceGrantRecord> = decoder(referenceGrantResource);

export function decoder<S>(resource: ResourceDefinition): Decode<ConfigurationRecord<S>> {
  return (object, meta) => {
    const raw = field(object, 'spec') ?? {};
    const broken = schemaProblems(resource, raw);
    const told = broken.length > 0 ? broken : refusedFields(resource, raw);
    const name = `${resource.kind} ${objectKey(meta)}`;
    return ok({
      meta,
      // The schema was just checked; this is the edge where the type is given.
      spec: broken.length === 0 ? ok(raw as S) : err(raw),
      problems: told.map((one) => ({ object: name, ...one })),
      status: field(object, 'status'),
    });
  };
}

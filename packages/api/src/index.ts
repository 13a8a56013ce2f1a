export * from './brand.ts';
export * from './result.ts';
export * from './identity.ts';
export * from './address.ts';
export * from './hostname.ts';
export * from './workload.ts';
export * from './waypoint.ts';
export * from './service.ts';
export * from './policy.ts';
export * from './mesh.ts';
export * from './provider.ts';
export * from './route.ts';
export * from './cluster.ts';
export * from './credential.ts';
export * from './authentication.ts';
export * from './gateway.ts';
export * from './telemetry.ts';
export * from './rate-limit.ts';
export * from './snapshot.ts';
export * from './signing.ts';
export * from './enrolment.ts';
export * from './ports.ts';
export { declaredProtocol } from './protocol.ts';
export * from './headers.ts';
export type { DecodeError, Decoder, Fields } from './decode.ts';
export { decodeWith } from './decode.ts';
export { decodePolicy, decodeService, decodeWorkload } from './decode-nouns.ts';
export { decodeMesh } from './decode-mesh.ts';
export {
  decodeAuthentication,
  decodeCluster,
  decodeCredential,
  decodeGateway,
  decodeRouteTable,
} from './decode-l7.ts';
export { decodeRateLimitPolicy } from './decode-rate-limit.ts';
export { decodeTelemetry } from './decode-telemetry.ts';
export type { DecodedControllerFrame, DecodedUpdate } from './decode-frames.ts';
export { decodeAgentFrame, decodeControllerFrame, decodeZtunnelFrame } from './decode-frames.ts';

import type { RequestAuthentication } from './authentication.ts';
import type { Brand } from './brand.ts';
import type { Cluster } from './cluster.ts';
import type { Credential } from './credential.ts';
import type { Gateway } from './gateway.ts';
import type { ServiceKey } from './hostname.ts';
import type { MeshSettings } from './mesh.ts';
import type { AuthorizationPolicy, PolicyKey } from './policy.ts';
import type { RouteTable } from './route.ts';
import type { Service } from './service.ts';
import type { CertificateRefused, CertificateRequest, CertificateResponse } from './signing.ts';
import type { RateLimitPolicy } from './rate-limit.ts';
import type { Telemetry } from './telemetry.ts';
import type { Workload, WorkloadUid } from './workload.ts';

/** Raised when an older peer could misread a frame. */
export const frameSchema = 1;
/** WebSocket path of the control channel, on `controlPort`. */
export const controlPath = '/v1/control';
/** Upper bound of one frame in bytes, either way; longer updates are split. */
export const maxFrameBytes = 4 * 1024 * 1024;

/** A hash of a resource's content, so that an unchanged resource is not sent again. */
export type SnapshotVersion = Brand<string, 'SnapshotVersion'>;

export interface ResourceTypes {
  readonly mesh: MeshSettings;
  readonly workload: Workload;
  readonly service: Service;
  readonly policy: AuthorizationPolicy;
  readonly authentication: RequestAuthentication;
  readonly gateway: Gateway;
  readonly credential: Credential;
  readonly cluster: Cluster;
  readonly route: RouteTable;
  readonly telemetry: Telemetry;
  readonly 'rate-limit': RateLimitPolicy;
}
export type ResourceType = keyof ResourceTypes;
/** In the order in which they are sent: nothing is named before it is there. */
export const resourceTypes: readonly ResourceType[] = [
  'mesh',
  'policy',
  'authentication',
  'gateway',
  'telemetry',
  'rate-limit',
  'service',
  'credential',
  'cluster',
  'route',
  'workload',
];

/** What each program is told of. */
export const subscriptions: Readonly<Record<Program, ReadonlySet<ResourceType>>> = {
  ztunnel: new Set(['mesh', 'policy', 'service', 'workload'] as const),
  waypoint: new Set(resourceTypes),
};
export type Program = 'ztunnel' | 'waypoint';

export interface ResourceNames {
  readonly mesh: 'default';
  readonly workload: WorkloadUid;
  readonly service: ServiceKey;
  readonly policy: PolicyKey;
  /** `<namespace>/<name>`. */
  readonly authentication: string;
  readonly gateway: string;
  readonly telemetry: string;
  readonly 'rate-limit': string;
  readonly credential: string;
  readonly cluster: ServiceKey;
  readonly route: ServiceKey;
}

export type Upsert = {
  readonly [T in ResourceType]: {
    readonly type: T;
    readonly name: ResourceNames[T];
    readonly version: SnapshotVersion;
    readonly resource: ResourceTypes[T];
  };
}[ResourceType];

export interface Removal {
  readonly type: ResourceType;
  readonly name: string;
}

/** First frame of a proxy: who it is and what it holds, so that the answer is a delta. */
export interface Hello {
  readonly kind: 'hello';
  readonly schema: number;
  readonly program: Program;
  /** Node name and pod name of the proxy; the node is checked against its token. */
  readonly node: string;
  readonly instance: string;
  readonly held: readonly {
    readonly type: ResourceType;
    readonly versions: readonly (readonly [name: string, version: string])[];
  }[];
}

/** A delta. The state is whole once a frame with `complete` was applied. */
export interface SnapshotUpdate {
  readonly kind: 'update';
  readonly nonce: number;
  readonly upserts: readonly Upsert[];
  readonly removals: readonly Removal[];
  readonly complete: boolean;
}

export interface Ack {
  readonly kind: 'ack';
  readonly nonce: number;
}

/** What could not be taken; everything else of the update was applied. */
export interface Nack {
  readonly kind: 'nack';
  readonly nonce: number;
  readonly rejected: readonly {
    readonly type: string;
    readonly name: string;
    readonly reason: string;
  }[];
}

/** What a proxy cannot do with a resource that it could read, for example fetch its keys. */
export interface ReportedProblem {
  readonly type: ResourceType;
  readonly name: string;
  /** Path in the Kubernetes object of this name, for example `spec.jwtRules[0].jwksUri`. */
  readonly field: string;
  readonly message: string;
}

/** Every such problem that a proxy has at the moment: what it names no more is mended. Sent when it changes. */
export interface Report {
  readonly kind: 'report';
  readonly problems: readonly ReportedProblem[];
}

/** What one report may hold; the rest is not told. */
export const maxReportedProblems = 100;

export type ProxyFrame = Hello | Ack | Nack | Report | CertificateRequest;
export type ControllerFrame = SnapshotUpdate | CertificateResponse | CertificateRefused;

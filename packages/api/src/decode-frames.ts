import type { DecodeError, Decoder } from './decode.ts';
import {
  boolean,
  branded,
  decodeWith,
  integer,
  list,
  object,
  oneOf,
  text,
  union,
} from './decode.ts';
import { decodeMesh } from './decode-mesh.ts';
import { decodePolicy, decodeService, decodeWorkload, ip } from './decode-nouns.ts';
import {
  decodeAuthentication,
  decodeCluster,
  decodeCredential,
  decodeGateway,
  decodeRouteTable,
} from './decode-l7.ts';
import { decodeRateLimitPolicy } from './decode-rate-limit.ts';
import { decodeTelemetry } from './decode-telemetry.ts';
import type { AgentFrame, EnrolledPod, ZtunnelFrame } from './enrolment.ts';
import type { Result } from './result.ts';
import { ok } from './result.ts';
import type { CertificateRefused, CertificateResponse } from './signing.ts';
import type { Removal, ResourceType, SnapshotUpdate, SnapshotVersion, Upsert } from './snapshot.ts';
import { resourceTypes } from './snapshot.ts';

/** An update of which single resources may have been unreadable; the rest of it is good. */
export interface DecodedUpdate extends SnapshotUpdate {
  readonly undecodable: readonly {
    readonly type: ResourceType;
    readonly name: string;
    readonly reason: string;
  }[];
}

export type DecodedControllerFrame = DecodedUpdate | CertificateResponse | CertificateRefused;

const resourceType = oneOf(...resourceTypes);

const resources: Readonly<Record<ResourceType, Decoder<unknown>>> = {
  mesh: decodeMesh,
  authentication: decodeAuthentication,
  gateway: decodeGateway,
  credential: decodeCredential,
  cluster: decodeCluster,
  route: decodeRouteTable,
  telemetry: decodeTelemetry,
  'rate-limit': decodeRateLimitPolicy,
  policy: decodePolicy,
  service: decodeService,
  workload: decodeWorkload,
};

const head = object((f) => ({
  type: f.get('type', resourceType),
  name: f.get('name', text),
  version: f.get('version', branded<SnapshotVersion>()),
  resource: f.get('resource', (value) => value),
}));

const update: Decoder<DecodedUpdate> = object((f) => {
  const upserts: Upsert[] = [];
  const undecodable: DecodedUpdate['undecodable'][number][] = [];
  for (const { type, name, version, resource } of f.get('upserts', list(head))) {
    const decoded = decodeWith(resources[type], resource);
    if (decoded.ok) upserts.push({ type, name, version, resource: decoded.value } as Upsert);
    else undecodable.push({ type, name, reason: decoded.error.message });
  }
  return {
    kind: 'update',
    nonce: f.get('nonce', integer),
    upserts,
    undecodable,
    removals: f.get(
      'removals',
      list(
        object((r): Removal => ({ type: r.get('type', resourceType), name: r.get('name', text) })),
      ),
    ),
    complete: f.get('complete', boolean),
  };
});

const controllerFrame: Decoder<DecodedControllerFrame> = union<DecodedControllerFrame>('kind', {
  update,
  certificate: object((f) => ({
    kind: 'certificate',
    id: f.get('id', integer),
    chain: f.get('chain', list(text)),
    roots: f.get('roots', list(text)),
  })),
  'certificate-refused': object((f) => ({
    kind: 'certificate-refused',
    id: f.get('id', integer),
    code: f.get('code', oneOf('unauthenticated', 'bad-request', 'unavailable')),
    message: f.get('message', text),
  })),
});

const pod: Decoder<EnrolledPod> = object((f) => ({
  uid: f.get('uid', text),
  name: f.get('name', text),
  namespace: f.get('namespace', text),
  serviceAccount: f.get('serviceAccount', text),
  addresses: f.get('addresses', list(ip)),
  netns: f.get(
    'netns',
    object((n) => ({ path: n.get('path', text), inode: n.get('inode', text) })),
  ),
}));

const agentFrame: Decoder<AgentFrame> = union<AgentFrame>('kind', {
  'pod-added': object((f) => ({
    kind: 'pod-added',
    id: f.get('id', integer),
    pod: f.get('pod', pod),
  })),
  'pod-removed': object((f) => ({
    kind: 'pod-removed',
    id: f.get('id', integer),
    uid: f.get('uid', text),
    why: f.get('why', oneOf('released', 'deleted')),
  })),
  'pods-complete': object((f) => ({ kind: 'pods-complete', id: f.get('id', integer) })),
});

const ztunnelFrame: Decoder<ZtunnelFrame> = union<ZtunnelFrame>('kind', {
  hello: object((f) => ({
    kind: 'hello',
    schema: f.get('schema', integer),
    instance: f.get('instance', text),
  })),
  ack: object((f) => ({ kind: 'ack', id: f.get('id', integer), ...f.optional('error', text) })),
});

function fromJson<T>(decoder: Decoder<T>): (frame: string) => Result<T, DecodeError> {
  return (frame) => {
    let value: unknown;
    try {
      value = JSON.parse(frame);
    } catch {
      return {
        ok: false,
        error: { code: 'decode/invalid', path: '', message: 'the frame is no JSON' },
      };
    }
    const decoded = decodeWith(decoder, value);
    return decoded.ok ? ok(decoded.value) : decoded;
  };
}

export const decodeControllerFrame = fromJson(controllerFrame);
export const decodeAgentFrame = fromJson(agentFrame);
export const decodeZtunnelFrame = fromJson(ztunnelFrame);

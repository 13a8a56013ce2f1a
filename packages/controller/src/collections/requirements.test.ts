import { beforeEach, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { aPod, trustDomain } from '../../test/support.ts';
import { decodeEndpointSlice } from '../kube/decode/endpoint-slice.ts';
import { decodeGateway } from '../kube/decode/configuration.ts';
import { decodeNamespace } from '../kube/decode/namespace.ts';
import { decodePod } from '../kube/decode/pod.ts';
import { decodeAuthorizationPolicy } from '../kube/decode/policy.ts';
import { decodeService } from '../kube/decode/service.ts';
import { SnapshotState } from '../push/state.ts';
import { requiredConditions } from '../status/bound.ts';
import type { MeshCollections } from './mesh.ts';
import { createMeshCollections } from './mesh.ts';

/** A Service with a policy that a waypoint has to enforce, and pods that it selects, of which no EndpointSlice tells. */
let mesh: MeshCollections;
let state: SnapshotState;
const allow = { 'ambit.dev/bypass-waypoint': 'allow' };

beforeEach(() => {
  mesh = createMeshCollections({
    clusterId: 'c1',
    trustDomain: trustDomain(),
    rootNamespace: 'istio-system',
    clusterDomain: 'cluster.local',
  });
  state = new SnapshotState(mesh.outputs);
  namespace({});
  const spec = { selector: { app: 'web' }, clusterIP: '10.96.0.1', ports: [{ port: 80 }] };
  const service = { metadata: { name: 'web', namespace: 'shop' }, spec };
  mesh.sources.services.set('shop/web', decoded(decodeService, service));
  const targetRefs = [{ kind: 'Service', group: '', name: 'web' }];
  const policy = { metadata: { name: 'p', namespace: 'shop' }, spec: { targetRefs } };
  mesh.sources.policies.set('shop/p', decoded(decodeAuthorizationPolicy, policy));
  pod('a', '10.0.0.1');
});

function namespace(annotations: object): void {
  const object = { metadata: { name: 'shop', annotations } };
  mesh.sources.namespaces.set('shop', decoded(decodeNamespace, object));
}

function pod(
  name: string,
  ip: string,
  annotations: Record<string, string> = {},
  app = 'web',
): void {
  const made = aPod({ name, ip, uid: name, labels: { app } });
  const metadata = { ...(made as { metadata: object }).metadata, annotations };
  mesh.sources.pods.set(`shop/${name}`, decoded(decodePod, { ...made, metadata }));
}

function requiredBy(name: string): string | undefined {
  mesh.flush();
  const upsert = state.resource('workload', `c1//Pod/shop/${name}`);
  return upsert?.type === 'workload' ? upsert.resource.waypointRequiredBy : undefined;
}

function told(): string {
  mesh.flush();
  const [{ status, reason, message } = { status: '', reason: '', message: '' }] =
    requiredConditions(mesh.l7.requirements.get('shop/web'), {});
  return `${status} ${reason} ${message}`;
}

test('a pod that the Service selects is closed before any EndpointSlice names it', () => {
  pod('other', '10.0.0.9', {}, 'other');
  expect(requiredBy('a')).toBe('AuthorizationPolicy shop/p');
  expect(requiredBy('other')).toBeUndefined();
  mesh.sources.policies.delete('shop/p');
  expect(requiredBy('a')).toBeUndefined();
});

test('who refuses is told, and who of them opts out', () => {
  expect(told()).toMatch(
    /^True PolicyAttached because of AuthorizationPolicy shop\/p the workloads refuse/,
  );
  pod('b', '10.0.0.2', allow);
  expect(told()).toMatch(/^True PartlyBypassed .*Pod shop\/b is annotated/);
  expect([requiredBy('a'), requiredBy('b')]).toEqual(['AuthorizationPolicy shop/p', undefined]);
  pod('a', '10.0.0.1', allow);
  expect(told()).toMatch(/^False Bypassed .*Pod shop\/a, Pod shop\/b/);
  pod('c', '10.0.0.3');
  expect(told()).toMatch(/^True PartlyBypassed/);
});

test('a namespace that opts out is told, and what it does not say of its pods still holds', () => {
  namespace(allow);
  pod('b', '10.0.0.2', { 'ambit.dev/bypass-waypoint': 'refuse' });
  expect(told()).toMatch(
    /^False Bypassed AuthorizationPolicy shop\/p .*Namespace shop is annotated/,
  );
  expect([requiredBy('a'), requiredBy('b')]).toEqual([undefined, 'AuthorizationPolicy shop/p']);
});

test('what is bound to a waypoint of another revision goes through it once that is deployed, and nothing else of it is ours', () => {
  const labels = { 'istio.io/rev': 'canary' };
  const gateway = decoded(decodeGateway, {
    metadata: { name: 'w', namespace: 'shop', uid: 'u', labels },
    spec: {
      gatewayClassName: 'istio-waypoint',
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
    },
  });
  mesh.sources.gateways.set('shop/w', gateway);
  const bound = { 'istio.io/use-waypoint': 'w' };
  const spec = { selector: { app: 'web' }, clusterIP: '10.96.0.1', ports: [{ port: 80 }] };
  const service = { metadata: { name: 'web', namespace: 'shop', labels: bound }, spec };
  mesh.sources.services.set('shop/web', decoded(decodeService, service));
  const slice = {
    metadata: { name: 'web-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    ports: [{ port: 8080 }],
    endpoints: [
      {
        addresses: ['10.0.0.1'],
        targetRef: { kind: 'Pod', namespace: 'shop', name: 'a', uid: 'a' },
      },
    ],
  };
  mesh.sources.endpointSlices.set('shop/web-1', decoded(decodeEndpointSlice, slice));
  const believed = (): unknown => {
    mesh.flush();
    const upsert = state.resource('workload', 'c1//Pod/shop/a');
    return upsert?.type === 'workload' && upsert.resource.waypointIdentities;
  };
  expect(believed()).toEqual([]);
  expect(mesh.l7.bindings.get('shop/web')).toMatchObject({
    kind: 'broken',
    message: expect.stringContaining('is of revision canary'),
  });
  mesh.sources.gatewayAccounts.set('shop/w', { gatewayUid: 'u', createdAtMs: 1 });
  expect(believed()).toEqual(['spiffe://cluster.local/ns/shop/sa/w']);
  expect(mesh.l7.bindings.get('shop/web')).toMatchObject({ kind: 'bound' });
  expect(mesh.l7.waypoints.get('shop/w')).toBeUndefined();
  expect(state.all('gateway').size).toBe(0);
});

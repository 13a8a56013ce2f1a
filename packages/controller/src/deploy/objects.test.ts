import { describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { trustDomain } from '../../test/support.ts';
import { decodeGateway } from '../kube/decode/configuration.ts';
import type { CompiledWaypoint } from '../translate/waypoint.ts';
import { compileWaypoint } from '../translate/waypoint.ts';
import { gatewayStatus } from './gateway-status.ts';
import type { DeploySettings } from './objects.ts';
import { waypointObjects } from './objects.ts';

const cluster = {
  clusterId: 'c1',
  trustDomain: trustDomain(),
  rootNamespace: 'istio-system',
  clusterDomain: 'cluster.local',
};
const settings = {
  image: 'ambit/waypoint',
  imagePullPolicy: undefined,
  imagePullSecrets: [],
  resources: { requests: { cpu: '100m', memory: '128Mi' } },
  controller: 'controller:15012',
  clusterId: 'c1',
  trustDomain: 'cluster.local',
};

function waypoint(infrastructure: object = {}): CompiledWaypoint {
  const object = {
    metadata: { name: 'waypoint', namespace: 'shop', uid: 'u' },
    spec: {
      gatewayClassName: 'istio-waypoint',
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      infrastructure,
    },
  };
  const compiled = compileWaypoint(decoded(decodeGateway, object), cluster);
  if (compiled === undefined) throw new TypeError('no waypoint');
  return compiled;
}

describe('what is deployed for a waypoint', () => {
  test('says nothing of replicas, so that a rollout keeps what somebody scaled it to', () => {
    const made = [waypoint(), waypoint({ labels: { team: 'a' } })].map(
      (one) =>
        waypointObjects(one, settings).find(({ object }) => object.kind === 'Deployment')
          ?.object as { spec: Record<string, unknown> } | undefined,
    );
    expect(made[0]?.spec['template']).not.toEqual(made[1]?.spec['template']);
    for (const one of made) {
      expect(Object.keys(one?.spec ?? {}).sort()).toEqual(['selector', 'strategy', 'template']);
    }
  });

  test('is told of open ranges for keys only where there are some', () => {
    const told = (jwksAllowedCidrs: string[]) =>
      JSON.stringify(waypointObjects(waypoint(), { ...settings, jwksAllowedCidrs }));
    expect(told([])).not.toContain('JWKS_ALLOWED_CIDRS');
    expect(told(['10.1.0.0/16', '10.2.0.0/16'])).toContain(
      '{"name":"JWKS_ALLOWED_CIDRS","value":"10.1.0.0/16,10.2.0.0/16"}',
    );
  });

  test('is owned by the Gateway, bears its labels and annotations, and is of one namespace', () => {
    const infrastructure = { labels: { team: 'a' }, annotations: { note: 'b' } };
    const objects = waypointObjects(waypoint(infrastructure), settings);
    expect(objects.map(({ object }) => object.kind)).toEqual([
      'ServiceAccount',
      'Deployment',
      'Service',
    ]);
    for (const { object } of objects) {
      expect(object.metadata).toMatchObject({
        namespace: 'shop',
        labels: { team: 'a', 'gateway.networking.k8s.io/gateway-name': 'waypoint' },
        annotations: { note: 'b' },
        ownerReferences: [{ kind: 'Gateway', uid: 'u', controller: true }],
      });
    }
  });

  test('pulls its image and takes CPU and memory as the installation says, on nodes of Linux', () => {
    const podOf = (more: Partial<DeploySettings>): Record<string, unknown> => {
      const objects = waypointObjects(waypoint(), { ...settings, ...more });
      const made = objects.find(({ object }) => object.kind === 'Deployment')?.object;
      return (made as unknown as { spec: { template: { spec: Record<string, unknown> } } }).spec
        .template.spec;
    };
    const resources = { requests: { cpu: 1 }, limits: { memory: '1Gi' } };
    const said = podOf({
      imagePullPolicy: 'Always',
      imagePullSecrets: ['registry', 'mirror'],
      resources,
    });
    expect(said['imagePullSecrets']).toEqual([{ name: 'registry' }, { name: 'mirror' }]);
    expect(said['containers']).toMatchObject([{ imagePullPolicy: 'Always', resources }]);
    const silent = podOf({});
    expect(silent['nodeSelector']).toEqual({ 'kubernetes.io/os': 'linux' });
    expect(silent).not.toHaveProperty('imagePullSecrets');
    expect(silent['containers']).not.toHaveProperty('[0].imagePullPolicy');
  });

  test('is told with what is attached to its listener, and what may be', () => {
    const attachedRoutes = new Map([['mesh', 2]]);
    const status = gatewayStatus(waypoint(), true, 0, { attachedRoutes });
    const group = 'gateway.networking.k8s.io';
    expect(status?.['listeners']).toMatchObject([
      {
        name: 'mesh',
        attachedRoutes: 2,
        supportedKinds: [
          { group, kind: 'HTTPRoute' },
          { group, kind: 'GRPCRoute' },
        ],
      },
    ]);
  });

  test('is told on the Gateway where a part of it is refused', () => {
    const parametersRef = { group: '', kind: 'Secret', name: 'overlay' };
    const status = gatewayStatus(waypoint({ parametersRef }), true, 0);
    expect(status?.['conditions']).toContainEqual(
      expect.objectContaining({
        type: 'Accepted',
        status: 'False',
        reason: 'InvalidParameters',
        message: expect.stringContaining('spec.infrastructure.parametersRef: ') as unknown,
      }),
    );
  });
});

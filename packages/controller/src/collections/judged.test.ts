import { beforeEach, describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { trustDomain } from '../../test/support.ts';
import {
  decodeGateway,
  decodeRateLimitPolicy,
  decodeRequestAuthentication,
  decodeServiceEntry,
} from '../kube/decode/configuration.ts';
import { decode } from '../kube/decode/index.ts';
import { decodeAuthorizationPolicy } from '../kube/decode/policy.ts';
import { decodeService } from '../kube/decode/service.ts';
import type { MeshCollections } from './mesh.ts';
import { createMeshCollections } from './mesh.ts';

const cluster = {
  clusterId: 'Kubernetes',
  trustDomain: trustDomain(),
  rootNamespace: 'istio-system',
  clusterDomain: 'cluster.local',
};
const group = 'gateway.networking.k8s.io';

describe('targets that are not there', () => {
  let mesh: MeshCollections;

  beforeEach(() => {
    mesh = createMeshCollections(cluster);
  });

  /** What is told of a policy with such a target. */
  function told(ref: object, namespace = 'shop'): readonly string[] {
    const metadata = { name: 'p', namespace };
    const policy = decoded(decodeAuthorizationPolicy, { metadata, spec: { targetRefs: [ref] } });
    mesh.sources.policies.set(`${namespace}/p`, policy);
    mesh.flush();
    const { problems = [] } = mesh.judged.policies.get(`${namespace}/p`) ?? {};
    return problems.map((one) => `${one.reason ?? ''} ${one.field}: ${one.message}`);
  }

  function gateway(name: string, gatewayClassName: string): void {
    const object = { metadata: { name, namespace: 'shop' }, spec: { gatewayClassName } };
    mesh.sources.gateways.set(`shop/${name}`, decoded(decodeGateway, object));
  }

  test('are told until they come, whatever their kind is', () => {
    const entry = { group: 'networking.istio.io', kind: 'ServiceEntry', name: 'api' };
    const field = 'TargetNotFound spec.targetRefs[0].name';
    expect(told(entry)).toEqual([`${field}: there is no ServiceEntry shop/api`]);
    const metadata = { name: 'api', namespace: 'shop' };
    const spec = { hosts: ['api.example'], ports: [{ number: 80, name: 'http' }] };
    mesh.sources.serviceEntries.set('shop/api', decoded(decodeServiceEntry, { metadata, spec }));
    expect(told(entry)).toEqual([]);
    const waypoint = { group, kind: 'Gateway', name: 'waypoint' };
    expect(told(waypoint)).toEqual([`${field}: there is no Gateway shop/waypoint`]);
    gateway('waypoint', 'istio-waypoint');
    expect(told(waypoint)).toEqual([]);
    gateway('edge', 'nginx');
    expect(told({ ...waypoint, name: 'edge' })[0]).toContain('Gateway shop/edge is no waypoint');
    const ofClass = { group, kind: 'GatewayClass', name: 'nginx' };
    expect(told(ofClass, 'istio-system')[0]).toContain('the class of waypoints is istio-waypoint');
    expect(told({ ...ofClass, name: 'istio-waypoint' }, 'istio-system')).toEqual([]);
  });

  test('stand beside what else is wrong', () => {
    const metadata = { name: 'r', namespace: 'shop' };
    const spec = { targetRefs: [{ kind: 'Service', name: 'gone' }], limits: [] };
    mesh.sources.rateLimitPolicies.set(
      'shop/r',
      decoded(decodeRateLimitPolicy, { metadata, spec }),
    );
    mesh.flush();
    const { problems = [] } = mesh.judged.rateLimits.get('shop/r') ?? {};
    expect(problems.map(({ reason }) => reason)).toContain('TargetNotFound');
  });
});

describe('what holds for requests', () => {
  /** What is told of a RequestAuthentication and of a RateLimitPolicy with such a target, beside what is wrong. */
  function noted(ref: object, ports: readonly object[]): readonly (string | undefined)[] {
    const mesh = createMeshCollections(cluster);
    const metadata = { name: 'p', namespace: 'shop' };
    const service = { metadata: { name: 'db', namespace: 'shop' }, spec: { ports } };
    mesh.sources.services.set('shop/db', decoded(decodeService, service));
    const spec = { targetRefs: [ref] };
    mesh.sources.requestAuthentications.set(
      'shop/p',
      decoded(decodeRequestAuthentication, { metadata, spec }),
    );
    mesh.sources.rateLimitPolicies.set(
      'shop/p',
      decoded(decodeRateLimitPolicy, { metadata, spec }),
    );
    mesh.flush();
    const { authentications, rateLimits } = mesh.judged;
    return [authentications, rateLimits].map((one) => one.get('shop/p')?.note);
  }

  test('says on which ports it does not, and nothing where there are none', () => {
    const db = { kind: 'Service', name: 'db' };
    const lead = 'it does not hold where no request can be seen:';
    const ports = [
      { name: 'http', port: 80 },
      { name: 'tcp-wire', port: 9000 },
      { name: 'other', port: 9001 },
      { name: 'web', port: 9002, appProtocol: 'https' },
      { name: 'sql', port: 3306 },
    ];
    const told = `${lead} port 9000 of Service shop/db, which is declared as TCP; port 9002 of Service shop/db, which is declared as TLS; port 3306 of Service shop/db, which is declared as TCP`;
    expect(noted(db, ports)).toEqual([told, told]);
    expect(noted(db, [{ name: 'http', port: 80 }])).toEqual([undefined, undefined]);
    const waypoint = { group, kind: 'Gateway', name: 'waypoint' };
    const general = `${lead} ports that are declared as TCP or TLS`;
    expect(noted(waypoint, ports)).toEqual([general, general]);
  });
});

describe('those that are for all of a namespace, of which one holds', () => {
  const kinds = {
    PeerAuthentication: { decode: decode.peerAuthentication, spec: { mtls: { mode: 'STRICT' } } },
    Telemetry: { decode: decode.telemetry, spec: { accessLogging: [{ disabled: true }] } },
  } as const;

  test.each(['PeerAuthentication', 'Telemetry'] as const)('%s', (kind) => {
    const mesh = createMeshCollections(cluster);
    const source =
      kind === 'Telemetry' ? mesh.sources.telemetries : mesh.sources.peerAuthentications;
    const put = (key: string, year: number, more: object = {}): void => {
      const [namespace = '', name = ''] = key.split('/');
      const metadata = { name, namespace, creationTimestamp: `${year}-01-01T00:00:00Z` };
      const object = { metadata, spec: { ...kinds[kind].spec, ...more } };
      const record = decoded(kinds[kind].decode as typeof decode.telemetry, object);
      (source as typeof mesh.sources.telemetries).set(key, record);
    };
    /** Which is named as the one that holds instead. */
    const instead = (...keys: readonly string[]): readonly (string | undefined)[] => {
      mesh.flush();
      const judged = mesh.judged[kind === 'Telemetry' ? 'telemetries' : 'peerAuthentications'];
      return keys.map((key) => {
        const told = (judged.get(key)?.problems ?? []).map(({ message }) => message);
        return /^(\S+) is older and alone holds/.exec(told.join())?.[1];
      });
    };
    put('shop/b', 2024);
    put('shop/c', 2025);
    put('other/0', 2020);
    expect(instead('shop/b', 'shop/c', 'other/0')).toEqual([undefined, 'b', undefined]);
    put('shop/a', 2024);
    expect(instead('shop/a', 'shop/b', 'shop/c')).toEqual([undefined, 'a', 'a']);
    put('shop/a', 2026);
    expect(instead('shop/a', 'shop/b', 'shop/c')).toEqual(['b', undefined, 'b']);
    put('shop/b', 2024, { selector: { matchLabels: { app: 'web' } } });
    expect(instead('shop/a', 'shop/b', 'shop/c')).toEqual(['c', undefined, undefined]);
    source.delete('shop/c');
    expect(instead('shop/a')).toEqual([undefined]);
  });
});

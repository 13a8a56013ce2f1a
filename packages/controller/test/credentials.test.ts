import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube, makeTestCa } from '@ambit/testkit';
import type { TestCa } from '@ambit/testkit';

import { secretsOf } from '../src/collections/credentials.ts';
import type { MeshCollections } from '../src/collections/mesh.ts';
import { createMeshCollections } from '../src/collections/mesh.ts';
import {
  decodeDestinationRule,
  decodeGateway,
  decodeServiceEntry,
} from '../src/kube/decode/configuration.ts';
import { decodeNamespace } from '../src/kube/decode/namespace.ts';
import { decodeService } from '../src/kube/decode/service.ts';
import { decodeSecret } from '../src/kube/decode/secret.ts';
import type { NamedWatches } from '../src/kube/named-watches.ts';
import { startNamedWatches } from '../src/kube/named-watches.ts';
import { SnapshotState } from '../src/push/state.ts';
import { decoded } from './records.ts';
import { clientOf, fastTimings, memoryLog, trustDomain, until } from './support.ts';

const secrets = '/api/v1/secrets';
const base64 = (text: string): string => Buffer.from(text).toString('base64');

describe('Secrets that DestinationRules name', () => {
  let fake: FakeKube;
  let mesh: MeshCollections;
  let state: SnapshotState;
  let watches: NamedWatches;
  let client: ReturnType<typeof clientOf>;
  let ca: TestCa;
  const log = memoryLog();

  beforeEach(async () => {
    fake = await FakeKube.start();
    ca = await makeTestCa();
    client = clientOf(fake);
    mesh = createMeshCollections({
      clusterId: 'Kubernetes',
      trustDomain: trustDomain(),
      rootNamespace: 'istio-system',
      clusterDomain: 'cluster.local',
    });
    state = new SnapshotState(mesh.outputs);
    watches = startNamedWatches({
      what: { plural: 'secrets', kind: 'Secret' },
      decode: decodeSecret,
      client,
      log,
      timings: fastTimings,
      users: mesh.l7.destinationRules,
      namesOf: secretsOf,
      into: mesh.sources.secrets,
      onChange: () => mesh.flush(),
    });
    service('shop');
  });

  afterEach(async () => {
    await watches.close();
    client.close();
    await fake.close();
  });

  function service(waypointNamespace: string): void {
    const labels = {
      'istio.io/use-waypoint': 'waypoint',
      'istio.io/use-waypoint-namespace': waypointNamespace,
    };
    mesh.sources.services.set(
      'shop/reviews',
      decoded(decodeService, {
        metadata: { name: 'reviews', namespace: 'shop', labels },
        spec: { clusterIP: '10.96.0.9', clusterIPs: ['10.96.0.9'], ports: [{ port: 80 }] },
      }),
    );
  }

  function rule(tls: object, name = 'reviews', namespace = 'shop', host = 'reviews'): void {
    mesh.sources.destinationRules.set(
      `${namespace}/${name}`,
      decoded(decodeDestinationRule, {
        metadata: { name, namespace },
        spec: { host, trafficPolicy: { tls } },
      }),
    );
    mesh.flush();
  }

  function problems(): readonly string[] {
    mesh.flush();
    return (mesh.l7.destinationRules.get('shop/reviews')?.problems ?? []).map(
      ({ field, message }) => `${field}: ${message}`,
    );
  }

  async function pair(): Promise<Record<string, string>> {
    const { chain, privateKey } = await ca.issue('spiffe://partner.test/ns/a/sa/b');
    return { 'tls.crt': base64(chain.join('\n')), 'tls.key': base64(privateKey) };
  }

  async function told(what: RegExp): Promise<void> {
    await until(() => problems().some((one) => what.test(one)), `${what.source} on the status`);
  }

  test('are read by their name, pushed, followed, and forgotten when nobody names them', async () => {
    fake.put(secrets, { metadata: { name: 'other', namespace: 'shop' }, data: await pair() });
    rule({ mode: 'MUTUAL', credentialName: 'partner' });
    expect(problems()[0]).toMatch(/^spec\.trafficPolicy\.tls\.credentialName: .*not been read yet/);
    await watches.settled();
    await told(/Secret shop\/partner: there is no such Secret; requests are answered 503/);
    expect(state.all('credential').size).toBe(0);
    fake.put(secrets, { metadata: { name: 'partner', namespace: 'shop' }, data: await pair() });
    await told(/no roots to verify endpoints against/);
    fake.put(secrets, {
      metadata: { name: 'partner-cacert', namespace: 'shop' },
      data: { cacert: base64(ca.rootPem) },
    });
    await until(() => problems().length === 0, 'no problem');
    expect([...state.all('credential').keys()]).toEqual(['shop/partner']);
    expect(state.resource('credential', 'shop/partner')?.resource).toMatchObject({
      name: 'partner',
      ca: ca.rootPem,
      privateKey: expect.stringContaining('PRIVATE KEY') as unknown,
    });
    expect(state.resource('cluster', 'shop/reviews.shop.svc.cluster.local')).toBeDefined();
    fake.put(secrets, {
      metadata: { name: 'partner', namespace: 'shop' },
      data: { ...(await pair()), 'tls.key': (await pair())['tls.key'] ?? '' },
    });
    await told(/its key is not that of its certificate/);
    expect(state.all('credential').size).toBe(0);
    fake.put(secrets, {
      metadata: { name: 'partner', namespace: 'shop' },
      data: { ...(await pair()), 'ca.crt': base64(ca.rootPem) },
    });
    await until(() => problems().length === 0, 'no problem again');
    rule({ mode: 'DISABLE' });
    mesh.flush();
    expect(state.all('credential').size).toBe(0);
    expect(mesh.sources.secrets.size).toBe(0);
    expect(JSON.stringify(log.lines)).not.toContain('PRIVATE KEY');
  });

  test('without the right to read it the status says so', async () => {
    fake.intercept = ({ url }) =>
      url.pathname.endsWith('/secrets') ? { status: 403, body: { kind: 'Status' } } : undefined;
    rule({ mode: 'SIMPLE', credentialName: 'partner' });
    await told(/the controller has no right to list and watch it/);
    fake.intercept = undefined;
    fake.put(secrets, {
      metadata: { name: 'partner', namespace: 'shop' },
      data: { cacert: base64(ca.rootPem) },
    });
    await until(() => problems().length === 0, 'no problem');
  });

  test('a waypoint of another namespace gets none', async () => {
    for (const name of ['shop', 'edge']) {
      mesh.sources.namespaces.set(name, decoded(decodeNamespace, { metadata: { name } }));
    }
    mesh.sources.gateways.set(
      'edge/waypoint',
      decoded(decodeGateway, {
        metadata: { name: 'waypoint', namespace: 'edge', uid: 'u' },
        spec: {
          gatewayClassName: 'istio-waypoint',
          listeners: [
            {
              name: 'mesh',
              port: 15008,
              protocol: 'HBONE',
              allowedRoutes: { namespaces: { from: 'All' } },
            },
          ],
        },
      }),
    );
    mesh.sources.gatewayAccounts.set('edge/waypoint', { gatewayUid: 'u', createdAtMs: 1 });
    service('edge');
    rule({ mode: 'SIMPLE', credentialName: 'partner' });
    await told(/the waypoint is in namespace edge, which gets no Secrets of shop/);
    // A host of a ServiceEntry is bound by its ServiceEntry, whatever Service has the beginning of its name.
    const entry = (labels: object): void => {
      mesh.sources.serviceEntries.set(
        'shop/api',
        decoded(decodeServiceEntry, {
          metadata: { name: 'api', namespace: 'shop', labels },
          spec: { hosts: ['reviews.example.com'], ports: [{ number: 80, name: 'http' }] },
        }),
      );
    };
    fake.put(secrets, {
      metadata: { name: 'partner', namespace: 'shop' },
      data: { cacert: base64(ca.rootPem) },
    });
    entry({});
    rule({ mode: 'SIMPLE', credentialName: 'partner' }, 'reviews', 'shop', 'reviews.example.com');
    await until(() => problems().length === 0, 'no problem');
    entry({ 'istio.io/use-waypoint': 'waypoint', 'istio.io/use-waypoint-namespace': 'edge' });
    await told(/the waypoint is in namespace edge, which gets no Secrets of shop/);
  });
});

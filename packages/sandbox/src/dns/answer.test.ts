import { describe, expect, test } from '@jest/globals';
import type { Answer, Packet } from 'dns-packet';
import type { EndpointSlice, Service } from '../cluster/objects.ts';
import { answerQuery } from './answer.ts';
import { buildDnsView } from './records.ts';

const domain = 'cluster.local';
const port = { name: 'http', port: 80, protocol: 'TCP' };

function service(name: string, spec: Service['spec']): Service {
  return { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'shop' }, spec };
}

const slice: EndpointSlice = {
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: {
    name: 'db-1',
    namespace: 'shop',
    labels: { 'kubernetes.io/service-name': 'db' },
  },
  addressType: 'IPv4',
  endpoints: [
    { addresses: ['10.244.1.5'], hostname: 'db-0', conditions: { ready: true } },
    { addresses: ['10.244.1.6'], conditions: { ready: false } },
  ],
  ports: [port],
};

const view = buildDnsView(domain, {
  services: [
    service('web', { clusterIPs: ['10.96.0.20', 'fd00:10:96::14'], ports: [port] }),
    service('db', { clusterIP: 'None', clusterIPs: ['None'], ports: [port] }),
    service('far', { type: 'ExternalName', externalName: 'web.shop.svc.cluster.local' }),
  ],
  slices: [slice],
  pods: [],
});

function ask(
  name: string,
  type: 'A' | 'AAAA' | 'SRV' | 'PTR' | 'TXT',
): { code: number; answers: unknown[]; packet: Packet } {
  const packet = answerQuery(view, { type: 'query', id: 7, questions: [{ name, type }] }, domain);
  const data = (packet.answers ?? []).map((answer: Answer) =>
    'data' in answer ? answer.data : undefined,
  );
  return { code: (packet.flags ?? 0) & 0xf, answers: data, packet };
}

describe('names of a cluster', () => {
  test('a service has its addresses of both families, whatever the case', () => {
    expect(ask('Web.Shop.svc.cluster.local', 'A')).toMatchObject({
      code: 0,
      answers: ['10.96.0.20'],
    });
    expect(ask('web.shop.svc.cluster.local', 'AAAA').answers).toEqual(['fd00:10:96::14']);
  });

  test('a name without records of the type is no error, with a start of authority', () => {
    const { code, answers, packet } = ask('web.shop.svc.cluster.local', 'TXT');
    expect([code, answers]).toEqual([0, []]);
    expect(packet.authorities?.[0]).toMatchObject({ type: 'SOA', name: domain });
    expect(ask('shop.svc.cluster.local', 'A').code).toBe(0);
  });

  test('a name that is not there, in the cluster or outside, does not exist', () => {
    expect(ask('nothing.shop.svc.cluster.local', 'A').code).toBe(3);
    expect(ask('example.com', 'A').code).toBe(3);
  });

  test('a headless service is its ready endpoints, with their host names', () => {
    expect(ask('db.shop.svc.cluster.local', 'A').answers).toEqual(['10.244.1.5']);
    expect(ask('db-0.db.shop.svc.cluster.local', 'A').answers).toEqual(['10.244.1.5']);
    expect(ask('5.1.244.10.in-addr.arpa', 'PTR').answers).toEqual([
      'db-0.db.shop.svc.cluster.local',
    ]);
  });

  test('a named port has a service record, and the address comes along', () => {
    const { answers, packet } = ask('_http._tcp.web.shop.svc.cluster.local', 'SRV');
    expect(answers).toEqual([
      { target: 'web.shop.svc.cluster.local', port: 80, priority: 0, weight: 100 },
    ]);
    expect(packet.additionals).toContainEqual(
      expect.objectContaining({ type: 'A', data: '10.96.0.20' }),
    );
  });

  test('an external name leads on to what it names', () => {
    expect(ask('far.shop.svc.cluster.local', 'A').answers).toEqual([
      'web.shop.svc.cluster.local',
      '10.96.0.20',
    ]);
  });
});

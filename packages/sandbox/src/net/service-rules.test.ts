import { describe, expect, test } from '@jest/globals';
import type { EndpointSlice, Service } from '../cluster/objects.ts';
import { virtualAddresses } from './service-proxy.ts';
import { renderServiceRules } from './service-rules.ts';

const web: Service = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', namespace: 'shop' },
  spec: { clusterIPs: ['10.96.0.20', 'fd00:10:96::14'], ports: [{ name: 'http', port: 80 }] },
};

function slice(endpoints: EndpointSlice['endpoints']): EndpointSlice {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'web-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    endpoints,
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
  };
}

const ready = { addresses: ['10.244.1.2'], nodeName: 'node-1', conditions: { ready: true } };
const ending = {
  addresses: ['10.244.2.2'],
  nodeName: 'node-2',
  conditions: { ready: false, serving: true, terminating: true },
};

describe('where a service address leads', () => {
  test('to ready endpoints only, by family', () => {
    expect(virtualAddresses([web], [slice([ready, ending])], undefined)).toEqual([
      { ip: '10.96.0.20', protocol: 'tcp', port: 80, backends: [{ ip: '10.244.1.2', port: 8080 }] },
      { ip: 'fd00:10:96::14', protocol: 'tcp', port: 80, backends: [] },
    ]);
  });

  test('to those that still serve when none is ready', () => {
    expect(virtualAddresses([web], [slice([ending])], undefined)[0]?.backends).toEqual([
      { ip: '10.244.2.2', port: 8080 },
    ]);
  });

  test("to the node's own endpoints where the policy is Local", () => {
    const local = { ...web, spec: { ...web.spec, internalTrafficPolicy: 'Local' } };
    expect(virtualAddresses([local], [slice([ready])], 'node-2')[0]?.backends).toEqual([]);
    expect(virtualAddresses([local], [slice([ready])], 'node-1')[0]?.backends).toHaveLength(1);
  });

  test('without IPv6 the rules name no IPv6', () => {
    const rules = renderServiceRules(virtualAddresses([web], [slice([ready])], undefined), false);
    expect(rules).not.toMatch(/ip6|fd00/);
    expect(rules).toContain('10.96.0.20 . tcp . 80 : goto svc_10_96_0_20_tcp_80');
  });
});

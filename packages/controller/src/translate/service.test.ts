import { describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { decodeEndpointSlice } from '../kube/decode/endpoint-slice.ts';
import { decodePod } from '../kube/decode/pod.ts';
import { decodeService } from '../kube/decode/service.ts';
import { isEndpointOf, memberships, sliceEndpoints } from './endpoint.ts';
import { compileService } from './service.ts';

const annotation = 'networking.istio.io/traffic-distribution';

function service(spec: object = {}, metadata: object = {}, ofNamespace?: string) {
  const record = decoded(decodeService, {
    metadata: { name: 'front', namespace: 'shop', ...metadata },
    spec: {
      clusterIP: '10.96.0.1',
      clusterIPs: ['10.96.0.1', 'fd00::a'],
      ipFamilies: ['IPv4', 'IPv6'],
      ports: [
        { name: 'http', port: 80, targetPort: 'web', appProtocol: 'http' },
        { name: 'dns', port: 53, protocol: 'UDP' },
      ],
      ...spec,
    },
  });
  return compileService(record, ofNamespace, 'cluster.local');
}

test('every field', () => {
  expect(service()).toEqual({
    name: 'front',
    namespace: 'shop',
    hostname: 'front.shop.svc.cluster.local',
    vips: ['10.96.0.1', 'fd00::a'],
    ipFamilies: ['IPv4', 'IPv6'],
    ports: [{ name: 'http', port: 80, appProtocol: 'http' }],
    loadBalancing: { mode: 'any' },
    publishNotReady: false,
    withoutWaypoint: 'refuse',
  });
});

test('headless: no address', () => {
  expect(service({ clusterIP: 'None', clusterIPs: ['None'] })?.vips).toEqual([]);
});

test('ExternalName: no service', () => {
  expect(
    service({ type: 'ExternalName', clusterIP: undefined, clusterIPs: undefined }),
  ).toBeUndefined();
});

const zone = { mode: 'failover', scopes: ['network', 'region', 'zone'] };
const node = { mode: 'failover', scopes: ['network', 'region', 'zone', 'subzone', 'node'] };
const close = { annotations: { [annotation]: 'PreferClose' } };

describe('load balancing', () => {
  test.each<[string, object, object, string | undefined, object]>([
    ['PreferClose', { trafficDistribution: 'PreferClose' }, {}, undefined, zone],
    ['PreferSameZone', { trafficDistribution: 'PreferSameZone' }, {}, undefined, zone],
    ['PreferSameNode', { trafficDistribution: 'PreferSameNode' }, {}, undefined, node],
    ['the annotation', {}, close, undefined, zone],
    ['the namespace', {}, {}, 'PreferSameNode', node],
    ['the annotation before the namespace', {}, close, 'PreferSameNode', zone],
    [
      'the field before the annotation',
      { trafficDistribution: 'PreferSameNode' },
      close,
      undefined,
      node,
    ],
    [
      'internalTrafficPolicy before all',
      { internalTrafficPolicy: 'Local' },
      close,
      undefined,
      { mode: 'strict', scopes: ['node'] },
    ],
    ['an unknown value', { trafficDistribution: 'Far' }, {}, undefined, { mode: 'any' }],
    ['an empty one of the namespace', {}, {}, '', { mode: 'any' }],
  ])('%s', (_name, spec, metadata, ofNamespace, expected) => {
    expect(service(spec, metadata, ofNamespace)?.loadBalancing).toEqual(expected);
  });
});

describe('endpoints', () => {
  const slice = (endpoint: object, changes: object = {}) =>
    decoded(decodeEndpointSlice, {
      metadata: { name: 's', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'front' } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
      endpoints: [
        {
          addresses: ['10.0.0.1'],
          targetRef: { kind: 'Pod', namespace: 'shop', name: 'p', uid: 'u' },
          ...endpoint,
        },
      ],
      ...changes,
    });
  const of = (record: ReturnType<typeof slice>, spec: object = {}) => {
    const compiled = service(spec);
    if (compiled === undefined) throw new TypeError('no service');
    return [...sliceEndpoints(record, compiled).values()];
  };
  const pod = decoded(decodePod, {
    metadata: { name: 'p', namespace: 'shop', uid: 'u' },
    status: { phase: 'Running', podIP: '10.0.0.1' },
  });

  test.each<[string, object, object, boolean]>([
    ['no conditions: ready', {}, {}, true],
    ['ready', { conditions: { ready: true } }, {}, true],
    ['not ready', { conditions: { ready: false } }, {}, false],
    [
      'terminating though serving',
      { conditions: { ready: false, serving: true, terminating: true } },
      {},
      false,
    ],
    [
      'terminating, with publishNotReadyAddresses',
      { conditions: { ready: true, terminating: true } },
      { publishNotReadyAddresses: true },
      true,
    ],
  ])('%s', (_name, endpoint, spec, ready) => {
    expect(of(slice(endpoint), spec)[0]?.ready).toBe(ready);
  });

  test('a named target port is the number that its slice has', () => {
    expect(of(slice({}))[0]?.ports).toEqual([{ servicePort: 80, targetPort: 8080 }]);
  });
  test('a port that the service does not have is left out', () => {
    expect(of(slice({}, { ports: [{ name: 'other', port: 1 }] }))[0]?.ports).toEqual([]);
  });
  test('hostnames are no endpoints', () => {
    expect(of(slice({}, { addressType: 'FQDN' }))).toEqual([]);
  });
  test.each<[string, object, boolean]>([
    ['its own', {}, true],
    [
      'another UID',
      { targetRef: { kind: 'Pod', namespace: 'shop', name: 'p', uid: 'old' } },
      false,
    ],
    ['no UID', { targetRef: { kind: 'Pod', namespace: 'shop', name: 'p' } }, true],
    [
      'another namespace',
      { targetRef: { kind: 'Pod', namespace: 'other', name: 'p', uid: 'u' } },
      false,
    ],
    ['an address that it does not have', { addresses: ['10.0.0.2'] }, false],
    ['an address alone', { targetRef: undefined }, true],
    ['another address alone', { addresses: ['10.0.0.2'], targetRef: undefined }, false],
  ])('of the pod: %s', (_name, endpoint, expected) => {
    expect(of(slice(endpoint)).some((one) => isEndpointOf(one, pod))).toBe(expected);
  });
  test('two slices of one service are one membership', () => {
    const both = [
      ...of(slice({})),
      ...of(slice({ addresses: ['fd00::1'], conditions: { ready: false } })),
    ];
    expect(memberships(both)).toEqual([
      {
        service: 'shop/front.shop.svc.cluster.local',
        ready: true,
        ports: [{ servicePort: 80, targetPort: 8080 }],
      },
    ]);
  });
});

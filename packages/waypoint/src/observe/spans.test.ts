import { describe, expect, test } from '@jest/globals';
import type { TelemetryFacts } from '@ambit/core';
import { aWorkload } from '@ambit/testkit';
import type { RequestSpan } from './spans.ts';
import { requestSpan } from './spans.ts';

function request(
  entry: Partial<TelemetryFacts> = {},
  fields: Partial<RequestSpan> = {},
): RequestSpan {
  return {
    kind: 'server',
    context: {
      traceId: '0af7651916cd43dd8448eb211c80319c',
      parentSpanId: '00f067aa0ba902b7',
      spanId: 'b7ad6b7169203331',
      sampled: true,
    },
    operation: 'reviews.default.svc.cluster.local:9080',
    istioTags: true,
    maxPathChars: 0,
    customTags: [],
    reporter: {
      nodeId: 'waypoint~10.244.0.4~waypoint-1.default',
      canonicalService: 'waypoint',
      canonicalRevision: 'latest',
      namespace: 'default',
      meshId: 'cluster.local',
      clusterId: 'Kubernetes',
    },
    ...fields,
    entry: {
      startTimeMs: 1000,
      method: 'GET',
      path: '/reviews/1',
      originalPath: undefined,
      protocol: 'HTTP/1.1',
      responseCode: 200,
      responseFlags: '-',
      responseCodeDetails: 'via_upstream',
      connectionTerminationDetails: undefined,
      upstreamTransportFailureReason: undefined,
      bytesReceived: 0,
      bytesSent: 345,
      durationMs: 7.5,
      upstreamServiceTimeMs: 6,
      upstreamHost: '10.244.0.7:9080',
      upstreamCluster: 'inbound-vip|9080|http|reviews.default.svc.cluster.local',
      upstreamLocalAddress: undefined,
      downstreamLocalAddress: '10.96.0.5:9080',
      downstreamRemoteAddress: '10.244.0.9:43210',
      downstreamPeerUri: undefined,
      requestedServerName: undefined,
      routeName: 'default',
      authority: 'reviews:9080',
      requestHeader: (name) => ({ 'x-request-id': 'id-1', 'user-agent': 'curl/8.5.0' })[name],
      responseHeader: () => undefined,
      scheme: 'http',
      requestHeaders: () => [],
      responseHeaders: () => [],
      grpcStatus: '',
      source: aWorkload({ workloadName: 'productpage-v1' }),
      destination: undefined,
      service: undefined,
      ...entry,
    },
  };
}

describe('the span of a request', () => {
  test('has the attributes of Istio', () => {
    expect(requestSpan(request())).toEqual({
      name: 'reviews.default.svc.cluster.local:9080/*',
      kind: 'server',
      traceId: '0af7651916cd43dd8448eb211c80319c',
      spanId: 'b7ad6b7169203331',
      parentSpanId: '00f067aa0ba902b7',
      startMs: 1000,
      endMs: 1007.5,
      error: false,
      attributes: {
        component: 'proxy',
        node_id: 'waypoint~10.244.0.4~waypoint-1.default',
        'guid:x-request-id': 'id-1',
        'http.url': 'http://reviews:9080/reviews/1',
        'http.method': 'GET',
        'http.protocol': 'HTTP/1.1',
        'http.status_code': '200',
        user_agent: 'curl/8.5.0',
        'peer.address': '10.244.0.9',
        request_size: '0',
        response_size: '345',
        response_flags: '-',
        upstream_address: '10.244.0.7:9080',
        upstream_cluster: 'inbound-vip|9080|http|reviews.default.svc.cluster.local',
        'upstream_cluster.name': 'inbound-vip|9080|http|reviews.default.svc.cluster.local',
        'istio.canonical_service': 'waypoint',
        'istio.canonical_revision': 'latest',
        'istio.namespace': 'default',
        'istio.mesh_id': 'cluster.local',
        'istio.cluster_id': 'Kubernetes',
        'istio.source_workload': 'productpage-v1',
        'istio.source_namespace': 'test',
        'istio.destination_workload': 'unknown',
        'istio.destination_namespace': 'unknown',
        'istio.downstream.workload': 'productpage-v1',
        'istio.downstream.namespace': 'test',
        'istio.upstream.workload': 'unknown',
        'istio.upstream.namespace': 'unknown',
      },
    });
  });

  test.each([
    [200, '', false],
    [404, '', false],
    [500, '', true],
    [0, '', true],
    [200, '0', false],
    [200, '5', false],
    [200, '14', true],
  ])('with status %s and gRPC status %s is an error: %s', (responseCode, grpcStatus, error) => {
    expect(requestSpan(request({ responseCode, grpcStatus })).error).toBe(error);
  });

  test.each([
    ['[fd00::9]:43210', 'fd00::9'],
    ['fd00::9', 'fd00::9'],
    ['10.0.0.1', '10.0.0.1'],
    [undefined, '-'],
  ])('tells of the peer at %s without its port', (downstreamRemoteAddress, expected) => {
    const { attributes } = requestSpan(request({ downstreamRemoteAddress }));
    expect(attributes['peer.address']).toBe(expected);
  });

  test('has tags of its owner, and none of Istio where they are not wanted', () => {
    const { attributes } = requestSpan(
      request({}, { istioTags: false, customTags: [['tenant', 'ada']], maxPathChars: 3 }),
    );
    expect(attributes['tenant']).toBe('ada');
    expect(attributes['http.url']).toBe('http://reviews:9080/re');
    expect(Object.keys(attributes).filter((name) => name.startsWith('istio.'))).toEqual([]);
  });

  test('bounds what a stranger sends', () => {
    const { attributes } = requestSpan(
      request({ path: `/${'p'.repeat(9999)}`, requestHeader: () => 'x'.repeat(9999) }),
    );
    expect(attributes['http.url']).toHaveLength('http://reviews:9080'.length + 256);
    expect(attributes['user_agent']).toHaveLength(1024);
  });
});

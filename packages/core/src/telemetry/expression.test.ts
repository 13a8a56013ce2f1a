import { expect, test } from '@jest/globals';
import { compileFilter, compileTag } from './expression.ts';
import type { TelemetryFacts } from './facts.ts';

function facts(fields: Partial<TelemetryFacts> = {}): TelemetryFacts {
  const request = new Map([
    ['user-agent', 'curl/8'],
    ['x-tenant', 'ada'],
  ]);
  return {
    startTimeMs: 0,
    method: 'GET',
    path: '/items/7?full=1',
    originalPath: undefined,
    protocol: 'HTTP/1.1',
    responseCode: 200,
    responseFlags: '-',
    responseCodeDetails: 'via_upstream',
    connectionTerminationDetails: undefined,
    upstreamTransportFailureReason: undefined,
    bytesReceived: 12,
    bytesSent: 345,
    durationMs: 7.4,
    upstreamServiceTimeMs: 6,
    upstreamHost: '10.0.0.7:9080',
    upstreamCluster: 'inbound-vip|80|http|shop',
    upstreamLocalAddress: undefined,
    downstreamLocalAddress: '10.96.0.5:9080',
    downstreamRemoteAddress: '10.0.0.9:43210',
    downstreamPeerUri: 'spiffe://cluster.local/ns/clients/sa/client',
    requestedServerName: undefined,
    routeName: 'default',
    authority: 'shop',
    requestHeader: (name) => request.get(name),
    responseHeader: () => undefined,
    scheme: 'http',
    requestHeaders: () => request,
    responseHeaders: () => [],
    grpcStatus: '',
    source: undefined,
    destination: undefined,
    service: undefined,
    ...fields,
  };
}

function filter(text: string, of = facts()): boolean | string {
  const compiled = compileFilter(text);
  return compiled.ok ? compiled.value(of) : compiled.error;
}

test.each([
  ['response.code >= 400', false],
  ['response.code < 400', true],
  ["request.method == 'GET' && connection.mtls", true],
  ["request.url_path.startsWith('/items')", true],
  ["'x-tenant' in request.headers && request.headers['x-tenant'] == 'ada'", true],
  ["request.path.matches('^/items/[0-9]+')", true],
  ["request.path.matches('^/other') || request.query == 'full=1'", true],
  ["has(request.referer) || source.principal.endsWith('/sa/client')", true],
  ['destination.port == 9080 && source.port > 1024', true],
  ['response.grpc_status == 0', false],
])('%s is %s', (text, expected) => {
  expect(filter(text)).toBe(expected);
});

test('what is absent is no match, and can be asked for', () => {
  const unanswered = facts({ responseCode: 0 });
  expect(filter('response.code < 500', unanswered)).toBe(false);
  expect(filter('!has(response.code) || response.code >= 500', unanswered)).toBe(true);
  expect(filter("request.headers['x-other'] == 'a'")).toBe(false);
});

test.each([
  ['response.cod == 1', 'No such key: cod'],
  ['nobody', 'Unknown variable'],
  ['request.method', 'must be bool'],
  ['1 +', 'Unexpected token'],
  ["request.headers.all(name, name != 'x')", 'loops are not there'],
  ['[1, 2].exists(n, n == 1)', 'loops are not there'],
  ['request.path.matches(request.host)', 'must be written out'],
  ["matches(request.path, 'a')", 'must say'],
  ["request.path.matches('(?=a)')", 'invalid'],
  ["request.path. // matches\n matches('(a+)+$')", ''],
  [`request.path == '${'x'.repeat(1100)}'`, 'longer'],
])('%j is refused: %s', (text, why) => {
  expect(filter(text)).toEqual(expect.stringContaining(why));
});

test('a pattern that makes backtracking engines hang costs no time', () => {
  const of = facts({ path: `/${'a'.repeat(50_000)}!` });
  const started = performance.now();
  expect(filter("request.path.matches('^/(a+)+$')", of)).toBe(false);
  expect(performance.now() - started).toBeLessThan(1000);
});

test('a tag is a text, bounded, and unknown where nothing is there', () => {
  const tag = (text: string): string => {
    const compiled = compileTag(text);
    return compiled.ok ? compiled.value(facts()) : compiled.error;
  };
  expect(tag('request.host')).toBe('shop');
  expect(tag("'literal'")).toBe('literal');
  expect(tag('string(destination.port)')).toBe('9080');
  expect(tag("response.code >= 400 ? 'error' : 'fine'")).toBe('fine');
  expect(tag('request.referer')).toBe('unknown');
  expect(tag('destination.workload')).toBe('unknown');
  expect(tag('destination.port')).toContain('must be string');
});

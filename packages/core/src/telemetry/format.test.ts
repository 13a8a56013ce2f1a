import { describe, expect, test } from '@jest/globals';
import type { AccessEntry } from './access-entry.ts';
import type { RenderLine } from './format.ts';
import {
  compileFormat,
  compileJsonFormat,
  defaultJsonFormat,
  defaultTextFormat,
} from './format.ts';

interface Headers {
  readonly request?: Readonly<Record<string, string>>;
  readonly response?: Readonly<Record<string, string>>;
}

function entry(fields: Partial<AccessEntry> = {}, headers: Headers = {}): AccessEntry {
  const request = new Map(
    Object.entries({
      'x-forwarded-for': '10.244.0.9',
      'user-agent': 'curl/8.5.0',
      'x-request-id': 'c0ffee00-1111-4222-8333-444455556666',
      ...headers.request,
    }),
  );
  const response = new Map(Object.entries(headers.response ?? {}));
  return {
    startTimeMs: Date.UTC(2026, 2, 4, 13, 6, 7, 89),
    method: 'GET',
    path: '/reviews/1?full',
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
    upstreamServiceTimeMs: 6.2,
    upstreamHost: '10.244.0.7:9080',
    upstreamCluster: 'inbound-vip|9080|http|reviews.default.svc.cluster.local',
    upstreamLocalAddress: undefined,
    downstreamLocalAddress: '10.96.0.5:9080',
    downstreamRemoteAddress: '10.244.0.9:43210',
    downstreamPeerUri: 'spiffe://cluster.local/ns/default/sa/productpage',
    requestedServerName: undefined,
    routeName: 'default',
    authority: 'reviews:9080',
    requestHeader: (name) => request.get(name),
    responseHeader: (name) => response.get(name),
    ...fields,
  };
}

function compiled(format: string): RenderLine {
  const result = compileFormat(format);
  if (!result.ok) throw new Error(result.error);
  return result.value;
}

function compiledJson(labels: ReadonlyMap<string, string>): (entry: AccessEntry) => unknown {
  const result = compileJsonFormat(labels);
  if (!result.ok) throw new Error(result.error);
  return (each) => {
    const line = result.value(each);
    expect(line.split('\n')).toEqual([expect.any(String), '']);
    return JSON.parse(line) as unknown;
  };
}

describe('the text format', () => {
  test('by default is what Istio writes', () => {
    expect(compiled(defaultTextFormat)(entry())).toBe(
      '[2026-03-04T13:06:07.089Z] "GET /reviews/1?full HTTP/1.1" 200 - via_upstream - "-" 12 345 7 6 ' +
        '"10.244.0.9" "curl/8.5.0" "c0ffee00-1111-4222-8333-444455556666" "reviews:9080" ' +
        '"10.244.0.7:9080" inbound-vip|9080|http|reviews.default.svc.cluster.local - ' +
        '10.96.0.5:9080 10.244.0.9:43210 - default\n',
    );
  });

  test('has a dash for whatever is not there', () => {
    const nothing = entry({
      protocol: undefined,
      responseCode: 0,
      responseFlags: '',
      responseCodeDetails: undefined,
      upstreamServiceTimeMs: undefined,
      upstreamHost: undefined,
      upstreamCluster: undefined,
      downstreamPeerUri: '',
      routeName: undefined,
    });
    const format =
      '%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% ' +
      '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% ' +
      '%DOWNSTREAM_PEER_URI_SAN% %ROUTE_NAME% %REQ(NO-SUCH)% %RESP(NO-SUCH?NEITHER)%';
    expect(compiled(format)(nothing)).toBe('- 0 - - - - - - - - -\n');
  });

  test('reads headers, alternatives and lengths', () => {
    const one = entry({ originalPath: '/old' }, { request: { 'x-b': 'abcdef' } });
    expect(compiled('%REQ(X-A?X-B):3% %REQ(x-b)%')(one)).toBe('abc abcdef\n');
    expect(compiled('%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%')(one)).toBe('/old\n');
    expect(compiled('%REQ(:METHOD)% %REQ(HOST)% %RESP(:STATUS)%')(one)).toBe(
      'GET reviews:9080 200\n',
    );
    expect(compiled('%RESP(SERVER)%')(entry({}, { response: { server: 'x' } }))).toBe('x\n');
    expect(compiled('%REQ(X-A):1%')(entry({}, { request: { 'x-a': '😀' } }))).toBe('\n');
  });

  test('does not believe a header for what the proxy knows', () => {
    const forged = entry(
      {},
      {
        request: { 'x-envoy-original-path': '/forged' },
        response: { 'x-envoy-upstream-service-time': '999' },
      },
    );
    const line = compiled(defaultTextFormat)(forged);
    expect(line).not.toContain('forged');
    expect(line).not.toContain('999');
  });

  test.each([
    ['%START_TIME%', '2026-03-04T13:06:07.089Z'],
    ['%START_TIME(%Y/%m/%dT%H:%M:%S%z)%', '2026/03/04T13:06:07+0000'],
    ['%START_TIME(%s.%3f)%', '1772629567.089'],
    ['%START_TIME(%6f %9f %f %E3S)%', '089000 089000000 089000000 07.089'],
    ['%START_TIME(%a %e %b %y %I%p %F %T %%)%', 'Wed  4 Mar 26 01PM 2026-03-04 13:06:07 %'],
  ])('tells the time as %s', (format, expected) => {
    expect(compiled(format)(entry())).toBe(`${expected}\n`);
  });

  test('forgets the time of the request before', () => {
    const render = compiled('%START_TIME(%s)%');
    expect([1000, 2000, 2000, 1000].map((startTimeMs) => render(entry({ startTimeMs })))).toEqual([
      '1\n',
      '2\n',
      '2\n',
      '1\n',
    ]);
  });

  test.each([
    ['%NO_SUCH_THING%', 'unknown operator NO_SUCH_THING'],
    ['%constructor%', 'unknown operator constructor'],
    ['100% sure', 'no operator at "% sure"'],
    ['%REQ(X', 'no operator at "%REQ(X"'],
    ['%REQ%', "operator REQ needs one header's name, or two: none"],
    ['%REQ(A?B?C)%', "operator REQ needs one header's name, or two: A?B?C"],
    ['%PROTOCOL(X)%', 'operator PROTOCOL takes no argument'],
    ['%PROTOCOL:3%', 'operator PROTOCOL takes no length'],
    ['%START_TIME(%Q)%', 'operator START_TIME does not know %Q'],
    ['%START_TIME(%)%', 'operator START_TIME does not know %'],
    ['%RESPONSE_CODE_DETAILS(X)%', 'operator RESPONSE_CODE_DETAILS does not know "X"'],
  ])('%s is refused', (format, error) => {
    expect(compileFormat(format)).toEqual({ ok: false, error });
  });

  test('is always one line', () => {
    expect(compiled('100%%\n')(entry())).toBe('100%\n');
    expect(compiled('a\n  b\r\n\tc')(entry())).toBe('a   b \tc\n');
    expect(compiled('')(entry())).toBe('\n');
    const hostile = '\n"\\\r\u0000\u0085\u2028\t\u007f';
    const line = compiled(defaultTextFormat)(
      entry(
        {
          method: hostile,
          path: hostile,
          authority: hostile,
          requestedServerName: hostile,
          upstreamTransportFailureReason: `TLS error ${hostile}`,
          responseCodeDetails: 'no such host',
        },
        {
          request: { 'user-agent': hostile, 'x-request-id': '" 200 - "', 'x-forwarded-for': '\\' },
        },
      ),
    );
    expect(line).toMatch(/^[\x20-\x7e]*\n$/);
    expect(line).toContain('\\u000a\\"\\\\\\u000d\\u0000\\u0085\\u2028\\u0009\\u007f');
    expect(line).toContain(' no_such_host ');
    expect(line).toContain(' "\\\\" ');
    expect(line).toContain('"\\" 200 - \\""');
    // Quotes that are not escaped are those of the format alone.
    expect(line.replace(/\\./g, '').match(/"/g)).toHaveLength(14);
  });

  test('bounds what a stranger sends', () => {
    const line = compiled('%REQ(X-LONG)%')(
      entry({}, { request: { 'x-long': `${'x'.repeat(2047)}😀${'y'.repeat(9000)}` } }),
    );
    expect(line).toBe(`${'x'.repeat(2047)}\n`);
  });
});

describe('the JSON format', () => {
  test('by default has the keys and the types of Istio', () => {
    expect(compiledJson(defaultJsonFormat)(entry())).toEqual({
      start_time: '2026-03-04T13:06:07.089Z',
      method: 'GET',
      path: '/reviews/1?full',
      protocol: 'HTTP/1.1',
      response_code: 200,
      response_flags: null,
      response_code_details: 'via_upstream',
      connection_termination_details: null,
      upstream_transport_failure_reason: null,
      bytes_received: 12,
      bytes_sent: 345,
      duration: 7,
      upstream_service_time: '6',
      x_forwarded_for: '10.244.0.9',
      user_agent: 'curl/8.5.0',
      request_id: 'c0ffee00-1111-4222-8333-444455556666',
      authority: 'reviews:9080',
      upstream_host: '10.244.0.7:9080',
      upstream_cluster: 'inbound-vip|9080|http|reviews.default.svc.cluster.local',
      upstream_local_address: null,
      downstream_local_address: '10.96.0.5:9080',
      downstream_remote_address: '10.244.0.9:43210',
      requested_server_name: null,
      route_name: 'default',
    });
  });

  test('joins what is more than one operator to text', () => {
    const render = compiledJson(
      new Map([
        ['a "label"\n', '%PROTOCOL% %RESPONSE_CODE%/%REQ(NONE)%'],
        ['constant', 'x\n'],
        ['empty', ''],
      ]),
    );
    expect(render(entry())).toEqual({
      'a "label"\n': 'HTTP/1.1 200/-',
      constant: 'x\n',
      empty: '',
    });
    expect(compiledJson(new Map())(entry())).toEqual({});
  });

  test('keeps every value of a stranger whole, on one line', () => {
    const hostile = '","forged":"\n\u2028\u0085\\😀';
    const render = compiledJson(new Map([['user_agent', '%REQ(USER-AGENT)%']]));
    expect(render(entry({}, { request: { 'user-agent': hostile } }))).toEqual({
      user_agent: hostile,
    });
  });

  test('names the label and the operator that are wrong', () => {
    expect(compileJsonFormat(new Map([['x', '%NONE%']]))).toEqual({
      ok: false,
      error: 'x: unknown operator NONE',
    });
  });
});

describe('operators beyond those of the default format', () => {
  const of: Partial<AccessEntry> = {
    grpcStatus: '5',
    attempts: 2,
    traceId: '0af7651916cd43dd8448eb211c80319c',
    responseFlags: 'UF,URX',
    responseTrailer: (name) => (name === 'x-sum' ? 'seven' : undefined),
  };

  test.each([
    ['%GRPC_STATUS%', 'NotFound'],
    ['%GRPC_STATUS(SNAKE_STRING)%', 'NOT_FOUND'],
    ['%GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%', '5 5'],
    ['%TRACE_ID%', '0af7651916cd43dd8448eb211c80319c'],
    ['%STREAM_ID%', 'c0ffee00-1111-4222-8333-444455556666'],
    ['%UPSTREAM_REQUEST_ATTEMPT_COUNT%', '2'],
    ['%RESPONSE_DURATION% %RESPONSE_TX_DURATION%', '6 1'],
    ['%RESPONSE_FLAGS_LONG%', 'UpstreamConnectionFailure,UpstreamRetryLimitExceeded'],
    ['%REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH):6%', '/revie'],
    ['%QUERY_PARAM(full)%|%QUERY_PARAM(none)%', '|-'],
    ['%TRAILER(X-Sum):3%', 'sev'],
    ['%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%:%DOWNSTREAM_REMOTE_PORT%', '10.244.0.9:43210'],
    ['%UPSTREAM_REMOTE_ADDRESS%', '10.244.0.7:9080'],
    ['%ACCESS_LOG_TYPE%', 'DownstreamEnd'],
    ['%DYNAMIC_METADATA(a:b):9% %FILTER_STATE(x)% %CONNECTION_ID%', '- - -'],
  ])('%s', (format, line) => {
    expect(compiled(format)(entry(of))).toBe(`${line}\n`);
  });

  test('every name of a gRPC status, in both styles', () => {
    const both = compiled('%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)%');
    const lines = Array.from({ length: 17 }, (_, status) =>
      both(entry({ grpcStatus: String(status) })).trim(),
    );
    expect(lines.slice(0, 5)).toEqual([
      'OK OK',
      'Canceled CANCELLED',
      'Unknown UNKNOWN',
      'InvalidArgument INVALID_ARGUMENT',
      'DeadlineExceeded DEADLINE_EXCEEDED',
    ]);
    expect(lines.at(-1)).toBe('Unauthenticated UNAUTHENTICATED');
    expect(both(entry())).toBe('- -\n');
  });

  test.each([
    ['%GRPC_STATUS(LOUD)%', 'knows CAMEL_STRING, SNAKE_STRING and NUMBER'],
    ['%ENVIRONMENT(HOME)%', 'must not tell'],
    ['%TRAILER%', 'needs a name'],
    ['%TRACE_ID(x)%', 'takes no argument'],
  ])('%s is refused', (format, why) => {
    const result = compileFormat(format);
    expect(result.ok ? 'taken' : result.error).toContain(why);
  });
});

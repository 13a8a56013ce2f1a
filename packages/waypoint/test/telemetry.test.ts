import type { IncomingMessage } from 'node:http';
import { createServer as createHttpServer } from 'node:http';
import type { Http2Server, ServerHttp2Stream } from 'node:http2';
import { connect, createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Telemetry, Upsert } from '@ambit/api';
import { decodeTelemetry, decodeWith, parseIp, parsePort } from '@ambit/api';
import { duplexOf } from '@ambit/core';
import { aMesh } from '@ambit/testkit';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startBackend, startWorld, vip } from './world.ts';

/** What a waypoint tells of its traffic, on real sockets: metrics, access log, spans. */
let world: WaypointWorld;
let plain: Backend;
let grpc: Http2Server;
const collected: { readonly path: string | undefined; readonly body: unknown }[] = [];
const collector = createHttpServer((request, response) => {
  void bodyOf(request).then((text) => {
    collected.push({ path: request.url, body: JSON.parse(text) });
    response.writeHead(202).end();
  });
});

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

beforeAll(async () => {
  await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve));
  plain = await startBackend('plain', (request, response) => {
    response.writeHead(request.url === '/missing' ? 404 : 200).end('fine');
  });
  grpc = createServer();
  grpc.on('stream', (opened) => {
    const stream = opened as ServerHttp2Stream;
    stream.resume();
    stream.on('end', () => {
      stream.respond(
        { ':status': 200, 'content-type': 'application/grpc' },
        { waitForTrailers: true },
      );
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '5' }));
      stream.end(Buffer.concat([message(3), message(0), message(70_000)]));
    });
  });
  await new Promise<void>((resolve) => grpc.listen(0, '127.0.1.2', resolve));
  const { port } = grpc.address() as AddressInfo;
  const member = (servicePort: number, targetPort: number) => ({
    service: shopKey,
    ready: true,
    ports: [{ servicePort, targetPort }],
  });
  world = await startWorld({
    services: [
      shopService({
        ports: [
          { name: 'http', port: 80, appProtocol: '' },
          { name: 'grpc', port: 81, appProtocol: '' },
        ],
      }),
    ],
    workloads: [
      endpointOf(plain, { app: 'shop', version: 'v7' }),
      endpointOf(
        { ...plain, name: 'grpc', ip: '127.0.1.2', port },
        {},
        { services: [member(81, port)] },
      ),
    ],
  });
}, 30_000);

afterAll(async () => {
  await world.close();
  await plain.close();
  await new Promise<void>((resolve) => grpc.close(() => resolve()));
  collector.closeAllConnections();
  await new Promise<void>((resolve) => collector.close(() => resolve()));
});

function message(length: number): Buffer {
  const bytes = Buffer.alloc(5 + length, 1);
  bytes[0] = 0;
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

let version = 0;
function upsert(type: 'telemetry' | 'mesh', name: string, resource: unknown): Upsert {
  version += 1;
  return { type, name, resource, version: `t${version}` } as Upsert;
}

async function telemetry(fields: Partial<Record<keyof Telemetry, unknown>>): Promise<void> {
  const decoded = decodeWith(decodeTelemetry, {
    name: 'own',
    namespace: 'test',
    createdAtMs: 1,
    scope: { kind: 'targeted', targets: [{ kind: 'service', service: shopKey }] },
    metrics: [],
    accessLogs: [],
    tracing: [],
    ...fields,
  });
  if (!decoded.ok) throw new TypeError(decoded.error.message);
  await world.tell({ more: [upsert('telemetry', 'test/own', decoded.value)] });
}

async function noTelemetry(): Promise<void> {
  await world.controller.push([], [{ type: 'telemetry', name: 'test/own' }]);
}

async function series(name: string, ...parts: readonly string[]): Promise<string[]> {
  const text = await world.metrics.render();
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) && parts.every((part) => line.includes(part)));
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error('it never came about');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function openGrpc() {
  const ip = parseIp(vip);
  const port = parsePort(81);
  if (!ip.ok || !port.ok) throw new TypeError('no address');
  const { stream } = await (
    await world.session()
  ).openTunnel({
    authority: { kind: 'address', ip: ip.value, port: port.value },
    headers: [],
    timeoutMs: 15_000,
  });
  const session = connect('http://shop.test', { createConnection: () => duplexOf(stream) });
  const call = session.request({
    ':method': 'POST',
    ':path': '/shop.Shop/Call',
    'content-type': 'application/grpc',
  });
  return { session, call };
}

async function callGrpc(...messages: readonly Buffer[]): Promise<void> {
  const { session, call } = await openGrpc();
  for (const bytes of messages) call.write(bytes);
  call.end();
  call.resume();
  await new Promise((resolve) => call.on('close', resolve));
  session.destroy();
}

test('a request is counted with the labels of Istio', async () => {
  await world.ask({ path: '/missing', headers: { host: 'shop.test' } });
  const labels = [
    'reporter="waypoint"',
    'source_principal="spiffe://cluster.local/ns/test/sa/client"',
    'destination_service="shop.test.svc.cluster.local"',
    'destination_service_name="shop"',
    'destination_service_namespace="test"',
    'destination_workload="plain"',
    'destination_app="shop"',
    'destination_version="v7"',
    'destination_principal="spiffe://cluster.local/ns/test/sa/',
    'destination_cluster="Kubernetes"',
    'source_cluster="',
    'destination_region="',
    'request_protocol="http"',
    'response_code="404"',
    'response_flags="-"',
    'grpc_response_status=""',
    'connection_security_policy="mutual_tls"',
  ];
  expect(await series('istio_requests_total', ...labels)).toHaveLength(1);
  for (const name of ['request_duration_milliseconds', 'request_bytes', 'response_bytes']) {
    const [count] = await series(`istio_${name}_count`, ...labels);
    expect(count).toMatch(/ 1$/);
    expect(await series(`istio_${name}_bucket`, 'le="+Inf"', ...labels)).toHaveLength(1);
  }
  expect(await series('istio_request_messages_total')).toEqual([]);
});

test('messages of gRPC are counted both ways, with the status that trailers tell', async () => {
  await callGrpc(message(0), message(100_000));
  const labels = ['request_protocol="grpc"', 'response_code="200"', 'grpc_response_status="5"'];
  await until(async () => (await series('istio_requests_total', ...labels)).length === 1);
  expect((await series('istio_request_messages_total', ...labels))[0]).toMatch(/ 2$/);
  expect((await series('istio_response_messages_total', ...labels))[0]).toMatch(/ 3$/);
});

test('messages of a gRPC stream that lasts are told while it does', async () => {
  const { session, call } = await openGrpc();
  call.write(message(1));
  call.write(message(2));
  const told = (status: string) =>
    series(
      'istio_request_messages_total',
      'request_protocol="grpc"',
      `grpc_response_status="${status}"`,
    );
  const before = Number((await told('5'))[0]?.split(' ').at(-1) ?? 0);
  await until(async () => / 2$/.test((await told(''))[0] ?? ''));
  call.end(message(3));
  call.resume();
  await new Promise((resolve) => call.on('close', resolve));
  session.destroy();
  // At the end only what came since.
  await until(async () => Number((await told('5'))[0]?.split(' ').at(-1)) === before + 1);
}, 20_000);

test('of a client that is no known pod the namespace is that of its identity', async () => {
  await world.ask({ path: '/nobody' });
  const labels = ['source_workload="unknown"', 'source_workload_namespace="test"'];
  await until(async () => (await series('istio_requests_total', ...labels)).length > 0);
});

test('a host that a client made up is no label', async () => {
  await world.ask({ authority: 'made-up.example' });
  expect(await world.metrics.render()).not.toContain('made-up');
});

test('tags are removed and added, and a metric is off', async () => {
  await telemetry({
    metrics: [
      {
        providers: ['prometheus'],
        overrides: [
          {
            metrics: ['REQUEST_COUNT'],
            tags: [
              { name: 'source_principal' },
              { name: 'request_host', value: 'request.host' },
              { name: 'tenant', value: "request.headers['x-tenant']" },
            ],
          },
          { metrics: ['RESPONSE_SIZE'], disabled: true, tags: [] },
        ],
      },
    ],
  });
  const before = await series('istio_response_bytes_count');
  await world.ask({ headers: { 'x-tenant': 'ada' } });
  await world.ask();
  const [line] = await series('istio_requests_total', 'tenant="ada"');
  expect(line).toContain('request_host="shop.test"');
  expect(line).not.toContain('source_principal');
  expect(await series('istio_requests_total', 'tenant="unknown"')).toHaveLength(1);
  const duration = await series('istio_request_duration_milliseconds_count', 'source_principal=');
  expect(duration.length).toBeGreaterThan(0);
  expect(await series('istio_response_bytes_count')).toEqual(before);
  await noTelemetry();
});

test('values without end are at most 2,000 series', async () => {
  await telemetry({
    metrics: [
      {
        providers: [],
        overrides: [
          { metrics: ['REQUEST_COUNT'], tags: [{ name: 'path', value: 'request.path' }] },
        ],
      },
    ],
  });
  for (let at = 0; at < 2_500; at += 1) await world.ask({ path: `/${at}` });
  const all = await series('istio_requests_total');
  expect(all.length).toBeLessThanOrEqual(2000);
  const overflow = all.find((line) => line.includes('reporter="overflow"'));
  expect(Number(overflow?.split(' ').at(-1))).toBeGreaterThan(400);
  await noTelemetry();
}, 60_000);

test('a filter keeps events out of the log, and one that cannot be used keeps none', async () => {
  const logged = async (path: string): Promise<boolean> => {
    const mark = `/mark-${version}-${Math.random()}`;
    await world.ask({ path });
    await world.ask({ method: 'POST', path: mark, headers: { 'x-log': 'yes' } });
    await until(() => world.access.some((line) => line.includes(mark)));
    return world.access.slice(-2).some((line) => line.includes(`GET ${path} `));
  };
  const filter = "response.code >= 400 || 'x-log' in request.headers";
  await telemetry({ accessLogs: [{ providers: [], disabled: false, filter }] });
  expect(await logged('/fine-1')).toBe(false);
  expect(await logged('/missing')).toBe(true);
  await telemetry({ accessLogs: [{ providers: [], disabled: false, filter: 'response.cod' }] });
  expect(await logged('/fine-2')).toBe(true);
  await telemetry({ accessLogs: [{ providers: [], disabled: true }] });
  await world.ask({ path: '/hidden' });
  await noTelemetry();
  expect(await logged('/fine-3')).toBe(true);
  expect(world.access.join('\n')).not.toContain('/hidden');
});

test('providers have formats of their own', async () => {
  const format = { kind: 'json', fields: [['who', '%DOWNSTREAM_PEER_URI_SAN%']] };
  const text = { kind: 'text', text: '%REQ(X-A)% %RESPONSE_CODE% [%PROTOCOL%]' };
  await world.tell({
    more: [
      upsert('mesh', 'default', {
        ...aMesh({ roots: [world.ca.rootPem] }),
        providers: [
          { kind: 'access-log', name: 'json', path: '/dev/stdout', format },
          { kind: 'access-log', name: 'short', path: '/dev/stdout', format: text },
        ],
      }),
    ],
  });
  await telemetry({ accessLogs: [{ providers: ['json', 'short'], disabled: false }] });
  const before = world.access.length;
  await world.ask({ headers: { 'x-a': 'a"b' } });
  await until(() => world.access.length >= before + 2);
  expect(world.access.slice(before)).toEqual([
    '{"who":"spiffe://cluster.local/ns/test/sa/client"}',
    'a\\"b 200 [HTTP/1.1]',
  ]);
  await noTelemetry();
});

test('one event is one line, whatever a client sends', async () => {
  const nasty = [
    'plain',
    'quote " and \\ backslash',
    '\u001b[31mred\u001b[0m'.replaceAll('\u001b', '\u009b'),
    '"}\t{"level":"error"',
    '\u0085\u00a0 next line',
    'x'.repeat(6000),
  ];
  for (const value of nasty) {
    const before = world.access.length;
    await world.ask({ headers: { 'user-agent': value, 'x-forwarded-for': value } });
    await until(() => world.access.length > before);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(world.access).toHaveLength(before + 1);
    const line = world.access.at(-1) ?? '';

    expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
    // Twelve fields in quotes, and not one quote more that is not escaped.
    expect(line.replace(/\\./g, '').match(/"/g)).toHaveLength(14);
  }
});

interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly kind: number;
  readonly name: string;
  readonly attributes: readonly { readonly key: string; readonly value: object }[];
}

function spansOf(body: unknown): readonly OtlpSpan[] {
  const { resourceSpans } = body as {
    readonly resourceSpans: readonly { scopeSpans: readonly { spans: OtlpSpan[] }[] }[];
  };
  return resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
}

const traceId = '0af7651916cd43dd8448eb211c80319c';
const callerSpan = 'b7ad6b7169203331';

test('spans of a sampled request stand below the caller, and the endpoint stands below them', async () => {
  const { port } = collector.address() as AddressInfo;
  const provider = {
    kind: 'opentelemetry',
    name: 'otel',
    address: { host: '127.0.0.1', port },
    http: { path: '/v1/traces', timeoutMs: 2000, headers: [] },
    maxTagLength: 0,
  };
  await world.tell({
    more: [
      upsert('mesh', 'default', {
        ...aMesh({ roots: [world.ca.rootPem], traceSamplingPercent: 0 }),
        providers: [provider],
      }),
    ],
  });
  await telemetry({
    tracing: [
      {
        providers: ['otel'],
        customTags: [
          { kind: 'literal', name: 'stage', value: 'test' },
          { kind: 'header', name: 'tenant', from: 'x-tenant', fallback: 'nobody' },
          { kind: 'environment', name: 'zone', from: 'ZONE', fallback: '' },
          { kind: 'format', name: 'code', format: '%RESPONSE_CODE%' },
        ],
      },
    ],
  });
  plain.requests.length = 0;
  await world.ask({ path: '/unsampled' });
  await world.ask({ path: '/told', headers: { traceparent: `00-${traceId}-${callerSpan}-00` } });
  await world.ask({
    path: '/traced',
    headers: { traceparent: `00-${traceId}-${callerSpan}-01`, 'x-tenant': 'ada' },
  });
  await until(() => collected.some(({ path }) => path === '/v1/traces'));
  const spans = collected.flatMap(({ body }) => spansOf(body));
  const [server, client] = spans;
  expect(spans).toHaveLength(2);
  expect(server).toMatchObject({ traceId, parentSpanId: callerSpan, kind: 2 });
  expect(server?.name).toBe('shop.test.svc.cluster.local:80/*');
  expect(client).toMatchObject({ traceId, parentSpanId: server?.spanId, kind: 3 });
  expect(plain.requests.at(-1)?.headers['traceparent']).toBe(
    `00-${traceId}-${client?.spanId ?? ''}-01`,
  );
  const text = (key: string, value: string) => ({ key, value: { stringValue: value } });
  expect(server?.attributes).toEqual(
    expect.arrayContaining([
      text('stage', 'test'),
      text('tenant', 'ada'),
      text('zone', 'zone-1'),
      text('code', '200'),
      text('istio.destination_workload', 'plain'),
      text('istio.upstream.workload', 'plain'),
    ]),
  );
}, 20_000);

test('B3 in and out, to Zipkin', async () => {
  const { port } = collector.address() as AddressInfo;
  const address = { host: '127.0.0.1', port };
  await world.tell({
    more: [
      upsert('mesh', 'default', {
        ...aMesh({ roots: [world.ca.rootPem], traceSamplingPercent: 0 }),
        providers: [{ kind: 'zipkin', name: 'zipkin', address, path: '', maxTagLength: 0 }],
        defaultProviders: { metrics: ['prometheus'], accessLogging: [], tracing: ['zipkin'] },
      }),
    ],
  });
  await noTelemetry();
  await world.ask({
    headers: { 'x-b3-traceid': traceId, 'x-b3-spanid': callerSpan, 'x-b3-sampled': '1' },
  });
  await until(() => collected.some(({ path }) => path === '/api/v2/spans'));
  const [server, client] = collected.find(({ path }) => path === '/api/v2/spans')
    ?.body as readonly Record<string, string>[];
  expect(server).toMatchObject({ traceId, parentId: callerSpan, kind: 'SERVER' });
  expect(plain.requests.at(-1)?.headers).toMatchObject({
    'x-b3-traceid': traceId,
    'x-b3-spanid': client?.['id'],
    'x-b3-sampled': '1',
  });
}, 20_000);

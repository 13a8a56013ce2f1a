import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';

/** What a waypoint tells of its traffic, in a whole cluster; the resources are those of docs/telemetry.md. */
let mesh: MeshCluster;
const reviews = 'http://reviews.shop:8080/';
const waypointLabels = { 'gateway.networking.k8s.io/gateway-name': 'waypoint' };
const page = readFileSync(
  fileURLToPath(new URL('../../docs/telemetry.md', import.meta.url)),
  'utf8',
);
const documented = [...page.matchAll(/```yaml\n(.*?)```/gs)].map(
  ([, yaml = '']) => parse(yaml) as { readonly kind: string; readonly metadata: { name: string } },
);

function example(name: string): object {
  const found = documented.find(({ metadata }) => metadata.name === name);
  if (found === undefined) throw new TypeError(`docs/telemetry.md has no ${name}`);
  return found;
}

/** Takes spans on one port and answers gRPC on the other. */
const collectorScript = `
const bytes = Buffer.from([0, 0, 0, 0, 1, 7]);
require('http').createServer((request, response) => {
  let body = '';
  request.on('data', (chunk) => (body += chunk));
  request.on('end', () => { console.log('SPANS ' + body); response.end(); });
}).listen(4318);
require('http2').createServer().on('stream', (stream) => {
  stream.resume();
  stream.on('end', () => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(Buffer.concat([bytes, bytes, bytes]));
  });
}).listen(9090);
`;

const callScript = `
const session = require('http2').connect('http://collector.shop:9090');
const call = session.request({ ':method': 'POST', ':path': '/a.B/C', 'content-type': 'application/grpc' });
call.on('trailers', (headers) => console.log('grpc ' + headers['grpc-status']));
call.on('error', (error) => console.log(error.message));
call.resume();
call.on('close', () => session.destroy());
call.write(Buffer.from([0, 0, 0, 0, 1, 7]));
call.end(Buffer.from([0, 0, 0, 0, 0]));
`;

beforeAll(async () => {
  mesh = await startMesh();
  const { cluster } = mesh;
  for (const namespace of ['shop', 'clients']) {
    await cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
  }
  for (const object of [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'collector', namespace: 'shop' },
      spec: {
        selector: { app: 'collector' },
        ports: [
          { name: 'http', port: 4318 },
          { name: 'grpc', port: 9090 },
        ],
      },
    },
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'collector', namespace: 'shop', labels: { app: 'collector' } },
      spec: {
        containers: [
          { name: 'main', image: 'ambit/samples', command: ['node', '-e', collectorScript] },
        ],
      },
    },
  ]) {
    await cluster.apply(object);
  }
  const made = await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--enroll-namespace', '--wait');
  expect(made.status).toBe(0);
  await until(async () => {
    await mesh.ask(reviews);
    return (await series('istio_requests_total')).length > 0 || undefined;
  }, 30_000);
}, 120_000);

afterEach(async () => {
  await mesh.clean();
});

afterAll(async () => {
  await mesh.close();
}, 60_000);

async function series(name: string, ...parts: readonly string[]): Promise<string[]> {
  const { ips } = await mesh.pod('shop', waypointLabels);
  const text = await mesh.cluster.read(ips[0] ?? '', 15020, '/stats/prometheus');
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) && parts.every((part) => line.includes(part)));
}

async function waypointLog(): Promise<string> {
  const { name } = await mesh.pod('shop', waypointLabels);
  return mesh.cluster.logs('shop', name);
}

test('TestL7Telemetry: six metrics of HTTP and gRPC, with their labels', async () => {
  await mesh.ask(`${reviews}?n=[1-5]`);
  const http = [
    'reporter="waypoint"',
    'destination_service_name="reviews"',
    'source_workload="client"',
    'source_principal="spiffe://cluster.local/ns/clients/sa/client"',
    'request_protocol="http"',
    'response_code="200"',
    'connection_security_policy="mutual_tls"',
  ];
  expect((await series('istio_requests_total', ...http)).length).toBeGreaterThan(0);
  for (const name of ['request_duration_milliseconds', 'request_bytes', 'response_bytes']) {
    expect((await series(`istio_${name}_count`, ...http)).length).toBeGreaterThan(0);
  }
  const { name } = await mesh.pod('clients', { app: 'client' });
  const called = await until(async () => {
    const { output } = await mesh.cluster.exec('clients', name, ['node', '-e', callScript]);
    return output.includes('grpc 0') || undefined;
  });
  expect(called).toBe(true);
  const grpc = ['request_protocol="grpc"', 'grpc_response_status="0"'];
  const value = async (metric: string): Promise<number> =>
    Number((await series(metric, ...grpc))[0]?.split(' ').at(-1));
  const calls = await value('istio_requests_total');
  expect(calls).toBeGreaterThan(0);
  expect(await value('istio_request_messages_total')).toBe(calls * 2);
  expect(await value('istio_response_messages_total')).toBe(calls * 3);
}, 60_000);

test('TestCustomizeMetrics: a tag less, a tag more, a metric less', async () => {
  await mesh.apply(example('metrics'));
  const [line] = await until(async () => {
    await mesh.ask(reviews, ['-H', 'x-tenant: ada']);
    const lines = await series('istio_requests_total', 'tenant="ada"');
    return lines.length > 0 ? lines : undefined;
  });
  expect(line).not.toContain('source_principal');
  const sizes = await series('istio_response_bytes_count');
  await mesh.ask(`${reviews}?n=[1-3]`);
  expect(await series('istio_response_bytes_count')).toEqual(sizes);
  const { status } = (await mesh.get(
    '/apis/telemetry.istio.io/v1/namespaces/shop/telemetries/metrics',
  )) as { readonly status?: { readonly conditions?: readonly object[] } };
  expect(status?.conditions).toEqual([
    expect.objectContaining({ type: 'Accepted', status: 'True' }),
  ]);
}, 60_000);

test('TestAccessLogFilter: answers that are fine are not logged', async () => {
  await mesh.apply(example('errors-only'));
  await until(async () => {
    const mark = `/mark-${Math.random()}`;
    await mesh.ask(`http://reviews.shop:8080${mark}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
    return (await waypointLog()).includes(mark) ? undefined : true;
  });
  await mesh.ask('http://reviews.shop:8080/fine?mark=hidden');
  await mesh.ask('http://reviews.shop:8080/%00/refused?mark=told');
  const log = await until(async () => {
    const text = await waypointLog();
    return text.includes('mark=told') ? text : undefined;
  });
  expect(log).not.toContain('mark=hidden');
}, 60_000);

interface ToldSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly kind: number;
}

test('TestTracing: a collector in a pod gets the spans, below the caller', async () => {
  await mesh.apply(example('istio'), example('traces'));
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const caller = 'b7ad6b7169203331';
  const spans = await until(async () => {
    await mesh.ask(reviews, ['-H', `traceparent: 00-${traceId}-${caller}-01`]);
    const log = await mesh.cluster.logs('shop', 'collector');
    const told = log
      .split('\n')
      .filter((line) => line.startsWith('SPANS '))
      .flatMap((line) => {
        const { resourceSpans } = JSON.parse(line.slice('SPANS '.length)) as {
          readonly resourceSpans: { scopeSpans: { spans: ToldSpan[] }[] }[];
        };
        return resourceSpans.flatMap((one) => one.scopeSpans.flatMap((scope) => scope.spans));
      });
    return told.some((span) => span.traceId === traceId) ? told : undefined;
  }, 40_000);
  const server = spans.find((span) => span.traceId === traceId && span.kind === 2);
  expect(server?.parentSpanId).toBe(caller);
  expect(spans.some((span) => span.kind === 3 && span.parentSpanId === server?.spanId)).toBe(true);
}, 90_000);

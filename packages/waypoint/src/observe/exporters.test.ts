import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import { createLogger } from '@ambit/core';
import { request as ask } from 'undici';
import type { SpanExporter, SpanExporterOptions } from './exporters.ts';
import { createSpanExporter } from './exporters.ts';
import type { Span } from './spans.ts';

interface Received {
  readonly path: string | undefined;
  readonly type: string | undefined;
  readonly body: unknown;
}

interface Collector {
  readonly url: string;
  readonly received: Received[];
  close(): Promise<void>;
}

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

/** A collector that answers with each status in turn, then with 202; `undefined` answers nothing at all. */
async function collector(...statuses: (number | undefined)[]): Promise<Collector> {
  const received: Received[] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body: unknown = JSON.parse(Buffer.concat(chunks).toString());
    received.push({ path: request.url, type: request.headers['content-type'], body });
    const status = statuses.length === 0 ? 202 : statuses.shift();
    if (status === undefined) return;
    response.writeHead(status).end();
  };
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const made: Collector = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  open.push(made);
  return made;
}

function exporter({
  url,
  ...options
}: Partial<SpanExporterOptions> & { readonly url: string }): SpanExporter & {
  readonly log: string[];
} {
  const log: string[] = [];
  const sink = { write: (line: string) => void log.push(line) };
  const made = createSpanExporter({
    kind: 'otlp',
    name: 'collector',
    path: '',
    timeoutMs: 0,
    backoffMs: 0,
    send: async ({ path, headers, body, signal }) => {
      const answer = await ask(`${url}${path}`, { method: 'POST', headers, body, signal });
      await answer.body.dump();
      return answer.statusCode;
    },
    serviceName: 'waypoint.default',
    resource: { 'k8s.pod.name': 'waypoint-1' },
    logger: createLogger({ scope: 'test', level: 'info', format: 'json', sink }),
    intervalMs: 60_000,
    ...options,
  });
  open.push(made);
  return Object.defineProperty(made, 'log', { value: log }) as typeof made & { log: string[] };
}

function span(fields: Partial<Span> = {}): Span {
  return {
    name: 'reviews:9080/*',
    kind: 'server',
    traceId: '0af7651916cd43dd8448eb211c80319c',
    spanId: 'b7ad6b7169203331',
    parentSpanId: '00f067aa0ba902b7',
    startMs: 1_772_629_567_089.25,
    endMs: 1_772_629_567_096.5,
    attributes: { 'http.method': 'GET' },
    error: false,
    ...fields,
  };
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe('spans', () => {
  test('go to an OTLP collector', async () => {
    const { url, received } = await collector();
    const spans = exporter({ url });
    spans.add(span());
    spans.add(span({ kind: 'client', parentSpanId: undefined, error: true, attributes: {} }));
    await spans.close();
    const text = (key: string, value: string) => ({ key, value: { stringValue: value } });
    const common = {
      traceId: '0af7651916cd43dd8448eb211c80319c',
      spanId: 'b7ad6b7169203331',
      name: 'reviews:9080/*',
      startTimeUnixNano: '1772629567089250000',
      endTimeUnixNano: '1772629567096500000',
    };
    expect(received).toEqual([
      {
        path: '/v1/traces',
        type: 'application/json',
        body: {
          resourceSpans: [
            {
              resource: {
                attributes: [
                  text('k8s.pod.name', 'waypoint-1'),
                  text('service.name', 'waypoint.default'),
                ],
              },
              scopeSpans: [
                {
                  scope: { name: 'ambit-waypoint' },
                  spans: [
                    {
                      ...common,
                      parentSpanId: '00f067aa0ba902b7',
                      kind: 2,
                      attributes: [text('http.method', 'GET')],
                      status: {},
                    },
                    { ...common, kind: 3, attributes: [], status: { code: 2 } },
                  ],
                },
              ],
            },
          ],
        },
      },
    ]);
    expect(spans.dropped).toBe(0);
  });

  test('go to a Zipkin collector', async () => {
    const { url, received } = await collector();
    const spans = exporter({ kind: 'zipkin', url });
    spans.add(span({ error: true }));
    spans.add(span({ kind: 'client', endMs: span().startMs, parentSpanId: undefined }));
    await spans.close();
    const common = {
      traceId: '0af7651916cd43dd8448eb211c80319c',
      id: 'b7ad6b7169203331',
      name: 'reviews:9080/*',
      timestamp: 1_772_629_567_089_250,
      localEndpoint: { serviceName: 'waypoint.default' },
    };
    const tags = { 'k8s.pod.name': 'waypoint-1', 'http.method': 'GET' };
    expect(received).toEqual([
      {
        path: '/api/v2/spans',
        type: 'application/json',
        body: [
          {
            ...common,
            parentId: '00f067aa0ba902b7',
            kind: 'SERVER',
            duration: 7250,
            tags: { ...tags, error: 'true' },
          },
          { ...common, kind: 'CLIENT', duration: 1, tags },
        ],
      },
    ]);
  });

  test('go to the path that is given', async () => {
    const { url, received } = await collector();
    const spans = exporter({ url, path: '/custom/traces?x=1' });
    spans.add(span());
    await spans.close();
    expect(received.map(({ path }) => path)).toEqual(['/custom/traces?x=1']);
  });

  test('leave when a batch is full, or its time has come', async () => {
    const { url, received } = await collector();
    const full = exporter({ kind: 'zipkin', url, batchSize: 2 });
    full.add(span());
    full.add(span());
    await until(() => received.length === 1);
    expect(received[0]?.body).toHaveLength(2);
    const timed = exporter({ kind: 'zipkin', url, intervalMs: 10 });
    timed.add(span());
    await until(() => received.length === 2);
    expect(received[1]?.body).toHaveLength(1);
  });

  test('beyond the queue are dropped, the newest first', async () => {
    const { url, received } = await collector();
    const spans = exporter({ kind: 'zipkin', url, maxQueue: 3 });
    for (let at = 1; at <= 5; at += 1) spans.add(span({ name: `span ${at}` }));
    expect(spans.dropped).toBe(2);
    await spans.close();
    expect(received.flatMap(({ body }) => body)).toMatchObject([
      { name: 'span 1' },
      { name: 'span 2' },
      { name: 'span 3' },
    ]);
    spans.add(span());
    expect(spans.dropped).toBe(3);
    expect(received).toHaveLength(1);
  });

  test('are sent once more where the collector was busy', async () => {
    const { url, received } = await collector(503);
    const spans = exporter({ url });
    spans.add(span());
    await spans.close();
    expect(received).toHaveLength(2);
    expect(spans.dropped).toBe(0);
    expect(spans.log).toEqual([]);
  });

  test('are dropped where both attempts fail, and at once where they are refused', async () => {
    const { url, received } = await collector(503, 503, 400);
    const spans = exporter({ url, batchSize: 1 });
    spans.add(span());
    await until(() => spans.dropped === 1);
    expect(received).toHaveLength(2);
    spans.add(span());
    await until(() => spans.dropped === 2);
    expect(received).toHaveLength(3);
    spans.add(span());
    await spans.close();
    expect(received).toHaveLength(4);
    expect(spans.log.map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { level: 'warn', reason: 'the collector answered 503' },
      { level: 'info', message: 'spans are taken again', dropped: 2 },
    ]);
  });

  test('are dropped where nobody listens, and no request is the worse for it', async () => {
    const gone = await collector();
    await gone.close();
    open.splice(open.indexOf(gone), 1);
    const spans = exporter({ url: gone.url, batchSize: 1 });
    spans.add(span());
    spans.add(span());
    await spans.close();
    expect(spans.dropped).toBe(2);
    expect(spans.log).toHaveLength(1);
  });

  test('wait for a silent collector no longer than two seconds when the end comes', async () => {
    const { url } = await collector(undefined, undefined);
    const spans = exporter({ url, batchSize: 1 });
    spans.add(span());
    spans.add(span());
    const started = performance.now();
    await Promise.all([spans.close(), spans.close()]);
    expect(performance.now() - started).toBeLessThan(3500);
    expect(spans.dropped).toBe(2);
  });

  test('that cannot be written are counted', async () => {
    const { url, received } = await collector();
    let told = 0;
    const spans = exporter({ url, onDropped: (count) => (told += count) });
    spans.add(span({ startMs: Number.NaN }));
    spans.add(span());
    await spans.close();
    expect(spans.dropped).toBe(1);
    expect(told).toBe(1);
    expect(received).toHaveLength(1);
  });

  test('leave a collector that failed alone for a while', async () => {
    const { url, received } = await collector(400);
    const spans = exporter({ url, batchSize: 1, backoffMs: 60_000 });
    spans.add(span());
    await until(() => spans.dropped === 1);
    spans.add(span());
    spans.add(span());
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(received).toHaveLength(1);
    await spans.close();
    expect(received).toHaveLength(3);
    expect(spans.dropped).toBe(1);
  });
});

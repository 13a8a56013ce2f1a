import { connect } from 'node:http2';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopService, startBackend, startWorld } from './world.ts';

/** What is told of messages that are refused before they are a request. */
let world: WaypointWorld;
let plain: Backend;

beforeAll(async () => {
  plain = await startBackend('plain');
  const ports = [{ name: 'http', port: 80, appProtocol: '' }];
  world = await startWorld({ services: [shopService({ ports })], workloads: [endpointOf(plain)] });
}, 30_000);
afterAll(async () => {
  await world.close();
  await plain.close();
});

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error('it never came about');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('what is no good request', () => {
  async function send(...texts: string[]): Promise<string> {
    const stream = await world.tunnel(80);
    let answer = '';
    stream.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')));
    stream.on('error', () => undefined);
    for (const text of texts) {
      stream.write(text);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await until(() => stream.readableEnded || stream.destroyed);
    stream.end();
    return answer;
  }
  const figure = async (status: number, flags: string): Promise<number> => {
    const text = await world.metrics.render();
    const line = text
      .split('\n')
      .filter((one) => one.startsWith('istio_requests_total{'))
      .filter((one) => one.includes(`response_code="${status}"`))
      .find((one) => one.includes(`response_flags="${flags}"`));
    return Number(line?.split(' ').at(-1) ?? 0);
  };

  test.each([
    ['GET / HTTP/1.1\r\nbad field: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n', 400, 'DPE http1.codec_error'],
    [`GET / HTTP/1.1\r\na: ${'x'.repeat(70_000)}`, 431, 'DPE http1.headers_too_large'],
    ['CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n', 405, 'NR route_not_found'],
  ])('number %# is one line and one figure', async (text, status, told) => {
    const [flags = ''] = told.split(' ');
    const before = world.access.length;
    const figures = await figure(status, flags);
    expect(await send(text)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    await until(() => world.access.length > before);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(world.access.slice(before)).toHaveLength(1);
    expect(world.access.at(-1)).toContain(`"- - HTTP/1.1" ${status} ${told} - "-" 0 0 `);
    expect(world.access.at(-1)).toMatch(/ 10\.96\.0\.1:80 127\.0\.0\.1:\d+ - -$/);
    expect(await figure(status, flags)).toBe(figures + 1);
  });

  test('a body that is none is told of as its request', async () => {
    const before = world.access.length;
    const head = 'POST /chunks HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n';
    await send(head, 'nonsense\r\n');
    await until(() => world.access.length > before);
    expect(world.access.slice(before)).toHaveLength(1);
    expect(world.access.at(-1)).toMatch(/"POST \/chunks HTTP\/1\.1" \d+ DPE http1\.codec_error /);
  });

  test('a stream of HTTP/2 that is refused is one line', async () => {
    const before = world.access.length;
    const stream = await world.tunnel(80);
    const session = connect('http://shop.test', { createConnection: () => stream });
    const call = session.request({ ':path': '/bad path' });
    const status = await new Promise((resolve) => {
      call.on('response', (headers) => resolve(headers[':status']));
      call.on('error', (error) => resolve(error.message));
    });
    session.destroy();
    expect(status).toBe(400);
    await until(() => world.access.length > before);
    expect(world.access.slice(before)).toHaveLength(1);
    expect(world.access.at(-1)).toContain(
      '"- - HTTP/2" 400 DPE http2.violation.of.messaging.rule - ',
    );
  });
});

import { setTimeout as sleep } from 'node:timers/promises';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parseIp, parsePort } from '@ambit/api';
import { duplexOf } from '@ambit/core';
import { defaultHttp1Limits } from '../src/http1/limits.ts';
import { big, floods, get, streams, times } from './floods.ts';
import { frame, literal, preface } from './frames.ts';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopService, startBackend, startWorld, vip } from './world.ts';

/** Floods and slow peers of security.md T14 to T16, in the tunnel; those on 15008 are in core's tests of HBONE. */
let world: WaypointWorld;
let backend: Backend;

beforeAll(async () => {
  backend = await startBackend('shop', (request, response) => {
    request.resume();
    response.on('error', () => undefined);
    if (request.url === '/big') {
      const block = Buffer.alloc(64 * 1024);
      let left = 64 * 16;
      const more = (): void => {
        while (left > 0) {
          left -= 1;
          if (!response.write(block)) {
            response.once('drain', more);
            return;
          }
        }
        response.end();
      };
      more();
      return;
    }
    if (request.url === '/quiet') {
      setTimeout(() => response.write('begun '), 2_500);
      setTimeout(() => response.end('done'), 5_000);
      return;
    }
    request.on('end', () => response.end('fine'));
  });
  world = await startWorld(
    {
      services: [
        shopService({
          ports: [
            { name: 'http', port: 80, appProtocol: '' },
            { name: 'any', port: 82, appProtocol: '' },
          ],
        }),
      ],
      workloads: [endpointOf(backend)],
    },
    {
      limits: {
        ...defaultHttp1Limits,
        headTimeoutMs: 800,
        stallTimeoutMs: 1_200,
        idleTimeoutMs: 1_500,
      },
    },
  );
}, 30_000);

afterAll(async () => {
  await world.close();
  await backend.close();
});

async function tunnel(): Promise<Duplex> {
  const ip = parseIp(vip);
  const port = parsePort(80);
  if (!ip.ok || !port.ok) throw new TypeError('no address');
  const { stream } = await (
    await world.session('attacker')
  ).openTunnel({
    authority: { kind: 'address', ip: ip.value, port: port.value },
    headers: [],
    timeoutMs: 15_000,
  });
  const duplex = duplexOf(stream);
  duplex.on('error', () => undefined);
  return duplex;
}

interface Outcome {
  readonly cutAfterMs: number | undefined;
  readonly answer: string;
}

/** Attacks until it is cut, at most five seconds, while another client asks without pause and loses nothing. */
async function attack(
  begin: Buffer,
  again: (round: number) => Buffer | undefined,
  { reads = true, pauseMs = 0 } = {},
): Promise<Outcome> {
  const stream = await tunnel();
  const began = performance.now();
  let over = false;
  let cutAfterMs: number | undefined;
  const victim = (async () => {
    const statuses = new Set<number>();
    while (!over) {
      statuses.add((await world.ask({ as: 'victim' })).status);
      await sleep(5);
    }
    return statuses;
  })();
  const chunks: Buffer[] = [];
  const cut = (): void => {
    cutAfterMs ??= performance.now() - began;
  };
  stream.once('close', cut);
  stream.once('end', cut);
  stream.on('data', (chunk: Buffer) => {
    if (chunks.length < 2_000) chunks.push(chunk);
  });
  if (!reads) stream.pause();
  stream.write(begin);
  for (let round = 0; cutAfterMs === undefined && performance.now() - began < 5_000; round += 1) {
    const bytes = again(round);
    if (bytes === undefined) await sleep(20);
    else if (!stream.write(bytes)) {
      await Promise.race([new Promise((resolve) => stream.once('drain', resolve)), sleep(50)]);
    } else await sleep(pauseMs);
  }
  over = true;
  stream.destroy();
  expect([...(await victim)]).toEqual([200]);
  return { cutAfterMs, answer: Buffer.concat(chunks).toString('latin1') };
}

describe('HTTP/2 floods are cut within five seconds, and nobody else notices', () => {
  test.each(floods)('%s', async (...[, begin, again, more]) => {
    const { cutAfterMs } = await attack(begin, again, more);
    expect(cutAfterMs).toBeLessThan(5_000);
  });

  test('a small block that stands for a large one is refused before it is made', async () => {
    const table = frame(
      1,
      5,
      1,
      Buffer.concat([get, Buffer.from([0x40]), literal('cookie', 'x'.repeat(3_900)).subarray(1)]),
    );
    const before = backend.requests.length;
    const bomb = streams(1, (id) =>
      frame(1, 5, id + 2, Buffer.concat([get, Buffer.alloc(8_000, 0xbe)])),
    );
    const rss = process.memoryUsage().rss;
    const { cutAfterMs } = await attack(Buffer.concat([preface, table]), (round) => bomb(round));
    expect(cutAfterMs).toBeLessThan(5_000);
    const big = backend.requests
      .slice(before)
      .filter(({ headers }) => (headers.cookie?.length ?? 0) > 4_000);
    expect(big.length).toBe(0);
    expect(process.memoryUsage().rss - rss).toBeLessThan(128 * 2 ** 20);
  });
});

describe('slow clients are cut by their times, and hold only their window', () => {
  test('a header block of HTTP/2 that drips', async () => {
    const head = frame(1, 5, 1, get);
    const { cutAfterMs } = await attack(preface, (round) => head.subarray(round, round + 1), {
      pauseMs: 60,
    });
    expect(cutAfterMs).toBeLessThan(3_000);
  });

  test('a stream with a closed window, a hundred times', async () => {
    const rss = process.memoryUsage().rss;
    const begin = Buffer.concat([
      preface,
      frame(4, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0])),
      streams(100, (id) => frame(1, 5, id, big))(0),
    ]);
    const { answer } = await attack(begin, () => undefined);
    expect(process.memoryUsage().rss - rss).toBeLessThan(200 * 2 ** 20);
    // RST_STREAM, CANCEL: each of them was given up.
    expect(answer.split('\0\0\x04\x03\0').length - 1).toBeGreaterThanOrEqual(100);
  });

  test('a head of HTTP/1.1 that drips is answered 408', async () => {
    const head = Buffer.from(`GET / HTTP/1.1\r\nHost: shop.test\r\nX: ${'y'.repeat(500)}`);
    const { cutAfterMs, answer } = await attack(
      Buffer.from('G'),
      (round) => head.subarray(round + 1, round + 2),
      { pauseMs: 20 },
    );
    expect(answer).toMatch(/^HTTP\/1\.1 408 /);
    expect(cutAfterMs).toBeLessThan(3_000);
  });

  test('a body that stops', async () => {
    const begin = 'POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 100\r\n\r\nhalf';
    expect((await attack(Buffer.from(begin), () => undefined)).cutAfterMs).toBeLessThan(4_000);
  });

  test('an answer that is not read', async () => {
    const rss = process.memoryUsage().rss;
    const begin = times(1, Buffer.from('GET /big HTTP/1.1\r\nHost: shop.test\r\n\r\n'));
    const { cutAfterMs } = await attack(begin, () => undefined, { reads: false });
    expect(cutAfterMs).toBeLessThan(5_000);
    expect(process.memoryUsage().rss - rss).toBeLessThan(64 * 2 ** 20);
  });

  test('silence', async () => {
    expect((await attack(Buffer.from('G'), () => undefined)).cutAfterMs).toBeLessThan(4_000);
    expect((await attack(preface, () => undefined)).cutAfterMs).toBeLessThan(4_000);
  });
});

test('an endpoint may be silent for longer than a client, before its answer and in it', async () => {
  expect(await world.ask({ path: '/quiet' })).toMatchObject({ status: 200, body: 'begun done' });
}, 15_000);

describe('HTTP/1.1', () => {
  test.each([
    ['too many fields', `GET / HTTP/1.1\r\nHost: shop.test\r\n${'a: b\r\n'.repeat(200)}\r\n`, 431],
    [
      'a field too long',
      `GET / HTTP/1.1\r\nHost: shop.test\r\na: ${'b'.repeat(70_000)}\r\n\r\n`,
      431,
    ],
    [
      'a head without an end',
      `GET / HTTP/1.1\r\nHost: shop.test\r\n${'a: b\r\n'.repeat(20_000)}`,
      431,
    ],
    ['a target too long', `GET /${'b'.repeat(70_000)} HTTP/1.1\r\nHost: shop.test\r\n\r\n`, 431],
    [
      'chunk extensions without end',
      `POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n1;${'a'.repeat(10_000)}`,
      400,
    ],
    [
      'trailers without end',
      `POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n${'a: b\r\n'.repeat(20_000)}`,
      431,
    ],
  ])('%s: refused', async (_name, bytes, status) => {
    const { answer, cutAfterMs } = await attack(Buffer.from(bytes), () => undefined);
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(cutAfterMs).toBeLessThan(5_000);
  });

  test('a hundred thousand tiny chunks: others are served in between', async () => {
    const begin = 'POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n';
    const chunk = Buffer.from('1\r\na\r\n');
    const { answer } = await attack(Buffer.from(begin), (round) => {
      if (round < 10) return times(10_000, chunk);
      return round === 10 ? Buffer.from('0\r\n\r\n') : undefined;
    });
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  }, 30_000);
});

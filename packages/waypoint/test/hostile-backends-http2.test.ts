import { connect } from 'node:http2';
import type { ClientHttp2Session } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { frame, literal } from './frames.ts';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startWorld } from './world.ts';

/** Endpoints of HTTP/2 that break its rules (security.md T13, T14): it reaches no other request, and holds no place. */
let world: WaypointWorld;
let client: ClientHttp2Session;
const sockets = new Set<Socket>();
let connections = 0;

/** What the endpoint does with a request, of which it sees the stream. */
type Behaviour = (socket: Socket, stream: number, path: string) => void;
let behave: Behaviour = () => undefined;
let greeting = frame(4, 0, 0, Buffer.alloc(0));

const number = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const setting = (id: number, value: number): Buffer =>
  Buffer.concat([Buffer.from([0, id]), number(value)]);
const none = Buffer.alloc(0);
const ok = Buffer.from([0x88]);

function head(stream: number, fields: Buffer = ok, flags = 4): Buffer {
  return frame(1, flags, stream, fields);
}
const lengthOf = (bytes: number): Buffer =>
  Buffer.concat([ok, literal('content-length', String(bytes))]);
const data = (stream: number, text: string, flags = 0): Buffer =>
  frame(0, flags, stream, Buffer.from(text));
/** A good answer that says what was asked for. */
const answer = (stream: number, path: string): Buffer =>
  Buffer.concat([head(stream), data(stream, path, 1)]);
const reset = (stream: number, code: number): Buffer => frame(3, 0, stream, number(code));
const goaway = (last: number, code = 0): Buffer =>
  frame(7, 0, 0, Buffer.concat([number(last), number(code)]));
const repeat = (count: number, one: Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, () => one));

/** Frames of the waypoint, as far as the endpoint has to understand them; the path comes as `x-path`. */
function read(socket: Socket): void {
  let input: Buffer = none;
  let greeted = false;
  socket.on('data', (chunk: Buffer) => {
    input = Buffer.concat([input, chunk]);
    if (!greeted) {
      if (input.length < 24) return;
      input = input.subarray(24);
      greeted = true;
    }
    while (input.length >= 9) {
      const length = input.readUIntBE(0, 3);
      if (input.length < 9 + length) return;
      const [type, flags] = [input[3] ?? 0, input[4] ?? 0];
      const stream = input.readUInt32BE(5);
      const payload = input.subarray(9, 9 + length).toString('latin1');
      input = input.subarray(9 + length);
      if (type === 4 && (flags & 1) === 0) socket.write(frame(4, 1, 0, none));
      if (type === 1) behave(socket, stream, /\/own-\d+/.exec(payload)?.[0] ?? '');
    }
  });
}

const server = createServer((socket) => {
  connections += 1;
  sockets.add(socket);
  socket.on('error', () => undefined);
  socket.on('close', () => sockets.delete(socket));
  socket.write(greeting);
  read(socket);
});

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.3.7', resolve));
  const { port } = server.address() as AddressInfo;
  world = await startWorld({
    services: [shopService({ ports: [{ name: 'grpc', port: 80, appProtocol: '' }] })],
    workloads: [
      endpointOf(
        { name: 'hostile', ip: '127.0.3.7', port } as Backend,
        {},
        {
          services: [
            { service: shopKey, ready: true, ports: [{ servicePort: 80, targetPort: port }] },
          ],
        },
      ),
    ],
  });
  const tunnel = await world.tunnel(80);
  client = connect('http://shop.test', { createConnection: () => tunnel });
  client.on('error', () => undefined);
}, 30_000);

afterAll(async () => {
  client.destroy();
  await world.close();
  for (const socket of sockets) socket.destroy();
  await new Promise<void>((resolve) => server.close(() => resolve()));
});

beforeEach(() => {
  greeting = frame(4, 0, 0, none);
  behave = (socket, stream, path) => socket.write(answer(stream, path));
  // Each test has a connection of its own.
  for (const socket of sockets) socket.destroy();
});

interface Seen {
  readonly status: number;
  readonly body: string;
  readonly trailers: Record<string, unknown>;
  readonly code: number | undefined;
}

let asked = 0;

/** One request with a path of its own; `send` is what becomes of its body. */
function ask(
  method = 'GET',
  send: (stream: ReturnType<ClientHttp2Session['request']>) => void = (stream) => stream.end(),
): Promise<Seen & { readonly path: string }> {
  asked += 1;
  const path = `/own-${asked}`;
  return new Promise((resolve) => {
    const stream = client.request(
      { ':method': method, ':path': path },
      { endStream: method === 'GET' || method === 'HEAD' },
    );
    let status = 0;
    let body = '';
    let trailers = {};
    stream.on('response', (fields) => (status = Number(fields[':status'])));
    stream.on('trailers', (fields) => (trailers = { ...fields }));
    stream.on('data', (chunk: Buffer) => (body += chunk.toString('latin1')));
    stream.on('error', () => undefined);
    stream.on('close', () => resolve({ status, body, trailers, path, code: stream.rstCode }));
    if (method !== 'GET' && method !== 'HEAD') send(stream);
  });
}

/** Requests that the waypoint thinks are under way. */
const active = (): number =>
  [...world.waypoint.context.clusters].reduce((sum, { requests }) => sum + requests, 0);

/** Everything works again, on whatever connection there is. */
async function goesOn(): Promise<void> {
  behave = (socket, stream, path) => socket.write(answer(stream, path));
  const many = await Promise.all(Array.from({ length: 120 }, () => ask()));
  for (const { status, body, path, code } of many) {
    expect({ status, body, code }).toEqual({ status: 200, body: path, code: 0 });
  }
  expect(active()).toBe(0);
}

type Case = readonly [name: string, how: Behaviour, wanted: readonly number[] | 'cut' | 'own'];

describe('an answer that is none is told as 502 or 503, or cut where it has begun', () => {
  test.each<Case>([
    ['DATA before HEADERS', (to, id) => to.write(data(id, 'forged', 1)), [502]],
    ['a second head', (to, id) => to.write(repeat(2, head(id))), 'cut'],
    [
      'more of a body than its length',
      (to, id) => to.write(Buffer.concat([head(id, lengthOf(3)), data(id, 'forged', 1)])),
      'cut',
    ],
    [
      'less of a body than its length',
      (to, id) => to.write(Buffer.concat([head(id, lengthOf(30)), data(id, 'half', 1)])),
      'cut',
    ],
    ['no body where there is a length', (to, id) => to.write(head(id, lengthOf(3), 5)), [502]],
    [
      'two lengths',
      (to, id) =>
        to.write(
          Buffer.concat([
            head(id, Buffer.concat([lengthOf(6), literal('content-length', '7')])),
            data(id, 'forged', 1),
          ]),
        ),
      [502],
    ],
    ['101', (to, id) => to.write(head(id, literal(':status', '101'))), [502]],
    ['100 as the answer', (to, id) => to.write(head(id, literal(':status', '100'), 5)), [502]],
    [
      'endless 1xx',
      (to, id) => to.write(repeat(20_000, head(id, literal(':status', '103')))),
      [502, 503],
    ],
    ['no status', (to, id) => to.write(head(id, literal('a', 'b'), 5)), [502]],
    ['two statuses', (to, id) => to.write(head(id, Buffer.concat([ok, ok]), 5)), [502]],
    ['a status that is none', (to, id) => to.write(head(id, literal(':status', '2000'), 5)), [502]],
    [
      'a request as the answer',
      (to, id) => to.write(head(id, Buffer.concat([ok, literal(':path', '/')]), 5)),
      [502],
    ],
    [
      'transfer-encoding',
      (to, id) =>
        to.write(head(id, Buffer.concat([ok, literal('transfer-encoding', 'chunked')]), 5)),
      [502],
    ],
    [
      'a line feed in a value',
      (to, id) => to.write(head(id, Buffer.concat([ok, literal('set-cookie', 'a\nb: c')]), 5)),
      [502],
    ],
    [
      'an upper-case name',
      (to, id) => to.write(head(id, Buffer.concat([ok, literal('Set-Cookie', 'a')]), 5)),
      [502],
    ],
    [
      'a head that is too large',
      (to, id) => {
        const block = Buffer.concat([ok, literal('a', 'x'.repeat(61 * 1024))]);
        to.write(frame(1, 1, id, block.subarray(0, 16_384)));
        for (let at = 16_384; at < block.length; at += 16_384) {
          const last = at + 16_384 >= block.length ? 4 : 0;
          to.write(frame(9, last, id, block.subarray(at, at + 16_384)));
        }
      },
      [502],
    ],
    [
      'a header bomb',
      (to, id) =>
        to.write(
          Buffer.concat([
            head(
              id,
              Buffer.concat([
                ok,
                Buffer.from([0x40]),
                literal('cookie', 'x'.repeat(3_900)).subarray(1),
                Buffer.alloc(8_000, 0xbe),
              ]),
              5,
            ),
          ]),
        ),
      [502, 503],
    ],
    [
      'a field that the table does not have',
      (to, id) => to.write(head(id, Buffer.from([0xff, 0x20]), 5)),
      [503],
    ],
    [
      'trailers that do not end the stream',
      (to, id) =>
        to.write(Buffer.concat([head(id), data(id, 'a'), head(id, literal('x-sum', '1'))])),
      'cut',
    ],
    [
      'a pseudo field in the trailers',
      (to, id) => to.write(Buffer.concat([head(id), data(id, 'a'), head(id, ok, 5)])),
      'cut',
    ],
    [
      'a length in the trailers',
      (to, id) =>
        to.write(
          Buffer.concat([head(id), data(id, 'a'), head(id, literal('content-length', '1'), 5)]),
        ),
      'cut',
    ],
    ['a reset before the answer', (to, id) => to.write(reset(id, 2)), [503]],
    ['a reset without an error before the answer', (to, id) => to.write(reset(id, 0)), [503]],
    [
      'a reset in the midst of the answer',
      (to, id) => to.write(Buffer.concat([head(id), data(id, 'half'), reset(id, 0)])),
      'cut',
    ],
    [
      'a reset behind the whole answer',
      (to, id, path) => to.write(Buffer.concat([answer(id, path), reset(id, 8)])),
      'own',
    ],
    [
      'the end of the connection in the midst',
      (to, id) => to.end(Buffer.concat([head(id), data(id, 'half')])),
      'cut',
    ],
    [
      'GOAWAY in the midst, then the rest',
      (to, id, path) => {
        to.write(Buffer.concat([head(id), goaway(id), data(id, path.slice(0, 3))]));
        setTimeout(() => to.write(data(id, path.slice(3), 1)), 20);
      },
      'own',
    ],
    [
      'GOAWAY that warns, then the answer',
      (to, id, path) => to.write(Buffer.concat([goaway(0x7fff_ffff), answer(id, path)])),
      'own',
    ],
    ['PUSH_PROMISE', (to, id) => to.write(frame(5, 4, id, Buffer.concat([number(2), ok]))), [503]],
    ['an answer to a stream of the future', (to, id) => to.write(answer(id + 2, 'forged')), [503]],
    ['an answer on an even stream', (to) => to.write(answer(2, 'forged')), [503]],
    ['a flood of PING', (to) => to.write(repeat(5_000, frame(6, 0, 0, Buffer.alloc(8)))), [503]],
    ['a flood of SETTINGS', (to) => to.write(repeat(5_000, frame(4, 0, 0, none))), [503]],
    [
      'a flood of empty DATA',
      (to, id) => to.write(Buffer.concat([head(id), repeat(5_000, data(id, ''))])),
      'cut',
    ],
    [
      'a flood of WINDOW_UPDATE',
      (to, id) => to.write(repeat(5_000, frame(8, 0, id, number(1)))),
      [503],
    ],
    [
      'a flood of resets of what is over',
      (to, id, path) => to.write(Buffer.concat([answer(id, path), repeat(5_000, reset(id, 8))])),
      'own',
    ],
    [
      'a window that overflows',
      (to, id) => to.write(frame(8, 0, id, number(0x7fff_ffff))),
      [502, 503],
    ],
    [
      'no HTTP/2 at all',
      (to) => to.write('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged'),
      [503],
    ],
  ])(
    '%s',
    async (_name, how, wanted) => {
      behave = how;
      for (let round = 0; round < 5; round += 1) {
        const seen = await ask('POST', (stream) => stream.end('body'));
        expect(seen.body).not.toContain('forged');
        if (wanted === 'own') {
          expect({ ...seen, code: 0 }).toMatchObject({ status: 200, body: seen.path });
        } else if (wanted === 'cut') {
          // Whatever was begun is not taken for whole.
          expect({
            status: seen.status,
            whole: seen.code === 0 && seen.status === 200,
          }).toMatchObject({ whole: false });
        } else expect(wanted).toContain(seen.status);
      }
      await goesOn();
    },
    15_000,
  );
});

describe('what the endpoint leaves open holds no place', () => {
  test('an early answer whole before the request is: a hundred and fifty of them', async () => {
    behave = (socket, stream, path) => socket.write(answer(stream, path));
    const before = connections;
    for (let round = 0; round < 150; round += 1) {
      const { status, body, path } = await ask('POST', (stream) => stream.write('begun'));
      expect({ status, body }).toEqual({ status: 200, body: path });
    }
    expect(connections - before).toBeLessThanOrEqual(1);
    await goesOn();
  });

  test('answers to HEAD whose stream is not ended', async () => {
    behave = (socket, stream) => socket.write(head(stream));
    const before = connections;
    for (let round = 0; round < 150; round += 1) {
      expect((await ask('HEAD')).status).toBe(200);
    }
    expect(connections - before).toBeLessThanOrEqual(2);
    await sleep(5_500);
    const later = connections;
    await goesOn();
    expect(connections - later).toBe(0);
  }, 20_000);

  test('streams that it did not take when it went are asked again', async () => {
    const before = connections;
    behave = (socket, stream, path) => {
      // A new connection each time the old one goes; the second one stays.
      if (connections - before < 2) socket.write(goaway(0));
      else socket.write(answer(stream, path));
    };
    const seen = await ask('POST', (stream) => stream.end('body'));
    expect(seen).toMatchObject({ status: 200, body: seen.path });
    await goesOn();
  });

  test('an endpoint that takes no stream fails its requests in time, and is asked once it does', async () => {
    greeting = frame(4, 0, 0, setting(3, 0));
    behave = (socket, stream) => socket.write(reset(stream, 7));
    const began = performance.now();
    const seen = await Promise.all(Array.from({ length: 5 }, () => ask()));
    expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([503]));
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(connections).toBeLessThan(200);
    greeting = frame(4, 0, 0, setting(3, 1));
    for (const socket of sockets) socket.write(greeting);
    await goesOn();
  }, 15_000);
});

import { connect as connectHttp2, createServer } from 'node:http2';
import { connect, createServer as createTcpServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { Http2Error, SessionHandlers } from '../src/index.ts';
import { Session, socketStream, streamTransport } from '../src/index.ts';
import { frame, limitsOf } from './frames.ts';

/** Peers that mean no good, frame by frame. */
const limits = limitsOf(1024 * 1024, 1024 * 1024);

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

const none = Buffer.alloc(0);
const greeting = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  frame(4, 0, 0, Buffer.concat([Buffer.from([0, 4]), uint32(0x7fff_ffff)])),
]);
/** GET http / with an authority of one letter. */
const get = Buffer.from([0x82, 0x86, 0x84, 0x41, 0x01, 0x61]);

interface Serving {
  readonly socket: Socket;
  readonly session: Session;
  readonly over: Promise<Http2Error | undefined>;
}

/** A session of ours as the server, and the socket of its client. */
async function serve(
  handlersOf: (session: () => Session) => Partial<SessionHandlers>,
): Promise<Serving> {
  const { promise: over, resolve: closed } = Promise.withResolvers<Http2Error | undefined>();
  const { promise: accepted, resolve: accept } = Promise.withResolvers<Session>();
  const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
    const session: Session = new Session(streamTransport(socketStream(socket)), {
      role: 'server',
      carries: 'requests',
      limits,
      handlers: {
        headers: () => undefined,
        streamClosed: () => undefined,
        goaway: () => undefined,
        closed,
        ...handlersOf(() => session),
      },
    });
    session.start();
    closing.push(() => session.destroy());
    accept(session);
  });
  const socket = connect({ port: await listen(server), host: '127.0.0.1' });
  socket.on('error', () => undefined);
  closing.push(() => socket.destroy());
  return { socket, session: await accepted, over };
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as AddressInfo).port;
}

describe('a client that does not read', () => {
  test('gets no more of a body for credit that it gives', async () => {
    let written = 0;
    const block = Buffer.alloc(64 * 1024);
    const { socket } = await serve((session) => ({
      headers: (id) => {
        const stream = session().respond(id, [':status', '200']);
        const more = (): void => {
          written += block.length;
          if (stream?.write(block) === true) setImmediate(more);
        };
        stream?.attach({
          data: () => undefined,
          end: () => undefined,
          drain: more,
          close: () => undefined,
        });
        more();
      },
    }));
    socket.pause();
    socket.write(
      Buffer.concat([greeting, frame(8, 0, 0, uint32(0x7000_0000)), frame(1, 5, 1, get)]),
    );
    await sleep(500);
    const before = written;
    for (let round = 0; round < 400; round += 1) {
      socket.write(frame(8, 0, 0, uint32(1024)));
      await sleep(1);
    }
    await sleep(100);
    expect(before).toBeGreaterThan(0);
    expect(written - before).toBeLessThan(1024 * 1024);
  });

  test('and asks on and on for heads alone is cut', async () => {
    let answers = 0;
    const large = 'x'.repeat(2_000);
    const { socket, session, over } = await serve((own) => ({
      headers: (id) => {
        answers += 1;
        own().earn(20);
        own().respond(id, [':status', '301', 'location', `/${large}`], true);
      },
    }));
    socket.pause();
    socket.write(greeting);
    for (let round = 0; round < 1_000 && !session.closed; round += 1) {
      const asks = Array.from({ length: 50 }, (_, at) =>
        frame(1, 5, (round * 50 + at) * 2 + 1, get),
      );
      socket.write(Buffer.concat(asks));
      await sleep(1);
    }
    expect(session.closed).toBe(true);
    expect((await over)?.message).toBe('the peer does not read');
    // 4 MiB, and what the kernel holds.
    expect(answers * large.length).toBeLessThan(32 * 1024 * 1024);
  }, 15_000);
});

test('a million bytes that come one by one and are not read take no more room than a few millions', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const { socket, session } = await serve(() => ({}));
  socket.write(Buffer.concat([greeting, frame(1, 4, 1, get)]));
  await sleep(50);
  collect();
  const used = (): number => process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
  const before = used();
  const byte = frame(0, 0, 1, Buffer.from('a'));
  const many = Buffer.concat(Array.from({ length: 10_000 }, () => byte));
  for (let round = 0; round < 100; round += 1) {
    if (!socket.write(many)) await new Promise((resolve) => socket.once('drain', resolve));
  }
  const stream = session.streams.get(1);
  const deadline = Date.now() + 8_000;
  while ((stream?.receiveWindow ?? 0) > 48_576 && Date.now() < deadline) await sleep(10);
  expect(stream?.receiveWindow).toBe(48_576);
  collect();
  expect(used() - before).toBeLessThan(16 * 1024 * 1024);
  let bytes = 0;
  let wrong = 0;
  stream?.attach({
    data: (chunk) => {
      bytes += chunk.length;
      for (const one of chunk) if (one !== 0x61) wrong += 1;
    },
    end: () => undefined,
    drain: () => undefined,
    close: () => undefined,
  });
  expect({ bytes, wrong }).toEqual({ bytes: 1_000_000, wrong: 0 });
}, 20_000);

test.each([
  ['SETTINGS', frame(4, 1, 0, none)],
  ['PING', frame(6, 1, 0, Buffer.alloc(8))],
])('answers to %s that nobody sent are not for free', async (_name, answer) => {
  const { socket, over } = await serve(() => ({}));
  socket.write(greeting);
  for (let round = 0; round < 100; round += 1) {
    socket.write(Buffer.concat(Array.from({ length: 100 }, () => answer)));
  }
  expect((await over)?.message).toBe('too many frames that carry nothing');
});

test('a server that takes more streams than before is asked again', async () => {
  const server = createServer({ settings: { maxConcurrentStreams: 1 } });
  server.on('session', (session) => {
    setTimeout(() => session.settings({ maxConcurrentStreams: 5 }), 100);
  });
  const port = await listen(server);
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const rooms: number[] = [];
  const session: Session = new Session(streamTransport(socketStream(socket)), {
    role: 'client',
    carries: 'requests',
    limits,
    handlers: {
      headers: () => undefined,
      streamClosed: () => undefined,
      goaway: () => undefined,
      closed: () => undefined,
      room: () => rooms.push(session.room),
    },
  });
  session.start();
  closing.push(() => session.destroy());
  while (rooms.length === 0) await sleep(5);
  expect(rooms).toEqual([5]);
});

test('who ends a stream when it hears the end is told once that it is over', async () => {
  let closes = 0;
  const { promise: closed, resolve } = Promise.withResolvers<unknown>();
  const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
    const session: Session = new Session(streamTransport(socketStream(socket)), {
      role: 'server',
      carries: 'requests',
      limits,
      handlers: {
        headers: (id) => {
          const stream = session.respond(id, [':status', '200']);
          stream?.attach({
            data: () => undefined,
            end: () => stream.end(),
            drain: () => undefined,
            close: () => (closes += 1),
          });
        },
        streamClosed: () => setTimeout(resolve, 20, undefined),
        goaway: () => undefined,
        closed: () => undefined,
      },
    });
    session.start();
    closing.push(() => session.destroy());
  });
  const client = connectHttp2(`http://127.0.0.1:${await listen(server)}`);
  closing.push(() => client.destroy());
  client.on('error', () => undefined);
  client.request({ ':method': 'POST' }).resume().end('body');
  await closed;
  expect(closes).toBe(1);
});

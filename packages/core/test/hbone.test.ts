import { once } from 'node:events';
import { connect as http2Connect, constants as h2 } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { SpiffeId, TrustDomain } from '@ambit/api';
import type {
  Authority,
  ClientSession,
  SessionLimits,
  TunnelRequest,
  WorkloadCertificate,
} from '@ambit/core';
import {
  TunnelRefused,
  connectSession,
  createHboneServer,
  createHbonePool,
  defaultLimits,
  parseAuthority,
} from '@ambit/core';
import type { TestCa } from '@ambit/testkit';
import { makeTestCa } from '@ambit/testkit';
import { frame } from './frames.ts';

const clientUri = 'spiffe://cluster.local/ns/a/sa/client';
const serverUri = 'spiffe://cluster.local/ns/b/sa/server';
const expected = { kind: 'identities', identities: new Set([serverUri as SpiffeId]) } as const;

let ca: TestCa;
let clientCertificate: WorkloadCertificate;
let serverCertificate: WorkloadCertificate;
const closing: (() => void)[] = [];

beforeAll(async () => {
  ca = await makeTestCa();
  clientCertificate = await ca.certificate(clientUri);
  serverCertificate = await ca.certificate(serverUri);
});

afterAll(() => {
  for (const close of closing.reverse()) close();
});

interface Served {
  readonly port: number;
  readonly rejected: string[];
  readonly server: ReturnType<typeof createHboneServer<string>>;
}

async function serve(
  onTunnel: (request: TunnelRequest) => void,
  limits: Partial<SessionLimits> = {},
): Promise<Served> {
  const rejected: string[] = [];
  const server = createHboneServer<string>({
    trustDomains: () => new Set(['cluster.local' as TrustDomain]),
    onTunnel,
    onRejected: (code) => rejected.push(code),
    limits: { ...defaultLimits, ...limits },
    handshakeTimeoutMs: 1000,
  });
  const listener = createServer({ allowHalfOpen: true }, (socket) =>
    server.accept(socket, serverCertificate, 'test'),
  );
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  closing.push(() => {
    server.end(() => true, 'destroy');
    listener.close();
  });
  return { port: (listener.address() as AddressInfo).port, rejected, server };
}

function open(
  port: number,
  certificate = clientCertificate,
  limits = defaultLimits,
): Promise<ClientSession> {
  const socket = connect({ port, host: '127.0.0.1' });
  const session = connectSession({ socket, certificate, expected, limits });
  session.then((made) => closing.push(() => made.session.destroy())).catch(() => undefined);
  return session;
}

function authority(text: string): Authority {
  const parsed = parseAuthority(text);
  if (!parsed.ok) throw new Error(parsed.error.message);
  return parsed.value;
}

const tunnelTo = { authority: authority('10.0.0.1:80'), headers: [], timeoutMs: 15_000 } as const;

function echo(request: TunnelRequest): void {
  const stream = request.accept([['baggage', 'k8s.namespace.name=b']]);
  stream?.attach({
    data: (chunk) => void stream.write(Buffer.from(chunk)),
    end: () => stream.end(),
    drain: () => undefined,
    close: () => undefined,
  });
}

function exchange(session: ClientSession, message: Buffer): Promise<Buffer> {
  return session.openTunnel(tunnelTo).then(
    ({ stream }) =>
      new Promise((resolve, reject) => {
        const chunks: Buffer[] = [];
        stream.attach({
          data: (chunk) => chunks.push(Buffer.from(chunk)),
          end: () => undefined,
          drain: () => undefined,
          close: (error) => (error === undefined ? resolve(Buffer.concat(chunks)) : reject(error)),
        });
        stream.write(message);
        stream.end();
      }),
  );
}

describe('a session', () => {
  test('carries bytes both ways, with half-close, for many streams at once', async () => {
    const { port } = await serve(echo);
    const session = await open(port);
    const messages = Array.from({ length: 50 }, (_, index) => Buffer.alloc(100_000 + index, index));
    const answers = await Promise.all(messages.map((message) => exchange(session, message)));
    expect(answers.every((answer, index) => answer.equals(messages[index]!))).toBe(true);
    expect(session.peer.uri).toBe(serverUri);
    expect(session.keyExchange).toContain('MLKEM');
  });

  test('tells the server who asks, and for what', async () => {
    const seen: string[] = [];
    const { port } = await serve((request) => {
      seen.push(request.peer.uri, request.authority, request.headers.get('forwarded') ?? '');
      echo(request);
    });
    const session = await open(port);
    const { headers } = await session.openTunnel({
      ...tunnelTo,
      headers: [['forwarded', 'for="1.2.3.4:5"']],
    });
    expect(seen).toEqual([clientUri, '10.0.0.1:80', 'for="1.2.3.4:5"']);
    expect(headers.get('baggage')).toBe('k8s.namespace.name=b');
  });

  test.each([400, 401, 503])(
    'a refusal with %d ends the stream and leaves the session',
    async (status) => {
      let refuse = true;
      const { port } = await serve((request) => {
        if (refuse) request.refuse(status);
        else echo(request);
      });
      const session = await open(port);
      await expect(session.openTunnel(tunnelTo)).rejects.toThrow(TunnelRefused);
      refuse = false;
      expect((await exchange(session, Buffer.from('hello'))).toString()).toBe('hello');
    },
  );

  test('abort is not an end: a reset on either side reaches the other as a reset', async () => {
    const ends: string[] = [];
    const { port } = await serve((request) => {
      const stream = request.accept([]);
      stream?.attach({
        data: (chunk) => {
          if (chunk.toString() === 'cut me') stream.abort(new Error('cut'));
        },
        end: () => ends.push('end'),
        drain: () => undefined,
        close: (error) => ends.push(error === undefined ? 'closed' : 'reset'),
      });
    });
    const session = await open(port);
    const { stream } = await session.openTunnel(tunnelTo);
    const closed = new Promise<Error | undefined>((resolve) =>
      stream.attach({
        data: () => undefined,
        end: () => ends.push('client end'),
        drain: () => undefined,
        close: resolve,
      }),
    );
    stream.write(Buffer.from('cut me'));
    expect(await closed).toMatchObject({ code: 'http2/reset' });
    const second = await session.openTunnel(tunnelTo);
    second.stream.abort(new Error('gone'));
    const third = await session.openTunnel(tunnelTo);
    session.session.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(third.stream.closed).toBe(true);
    expect(ends).toEqual(['reset', 'reset', 'reset']);
  });

  test('a stalled stream starves nobody, and holds no more than its window', async () => {
    let received = 0;
    const { port } = await serve((request) => {
      const stream = request.accept([]);
      if (request.headers.get('x-stall') === 'yes') {
        stream?.pause();
        stream?.attach({
          data: () => undefined,
          end: () => undefined,
          drain: () => undefined,
          close: () => undefined,
        });
        return;
      }
      stream?.attach({
        data: (chunk) => (received += chunk.length),
        end: () => stream.end(),
        drain: () => undefined,
        close: () => undefined,
      });
    });
    const session = await open(port);
    const chunk = Buffer.alloc(64 * 1024);
    const writeAll = async (
      headers: (readonly [string, string])[],
      bytes: number,
    ): Promise<number> => {
      const { stream } = await session.openTunnel({ ...tunnelTo, headers });
      let wake: () => void = () => undefined;
      stream.attach({
        data: () => undefined,
        end: () => undefined,
        drain: () => wake(),
        close: () => wake(),
      });
      let written = 0;
      while (written < bytes) {
        const room = stream.write(chunk);
        written += chunk.length;
        if (room) continue;
        const woken = await Promise.race([
          new Promise<boolean>((resolve) => (wake = () => resolve(true))),
          new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 500)),
        ]);
        if (!woken) return written;
      }
      stream.end();
      return written;
    };
    const stalled = await Promise.all(
      Array.from({ length: 6 }, () => writeAll([['x-stall', 'yes']], 64 * 2 ** 20)),
    );
    for (const bytes of stalled) expect(bytes).toBeLessThanOrEqual(4 * 2 ** 20 + chunk.length);
    expect(await writeAll([], 32 * 2 ** 20)).toBe(32 * 2 ** 20);
    // The rest comes without anything else happening, however busy the machine is.
    while (received < 32 * 2 ** 20) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(received).toBe(32 * 2 ** 20);
  });

  test('draining lets streams finish and takes no new ones', async () => {
    const { port, server } = await serve(echo);
    const session = await open(port);
    const { stream } = await session.openTunnel(tunnelTo);
    server.end(() => true, 'drain');
    while (session.session.open) await new Promise((resolve) => setTimeout(resolve, 5));
    const answer = new Promise<string>((resolve) =>
      stream.attach({
        data: (chunk) => resolve(chunk.toString()),
        end: () => undefined,
        drain: () => undefined,
        close: () => undefined,
      }),
    );
    stream.write(Buffer.from('still here'));
    expect(await answer).toBe('still here');
    stream.end();
    for (let wait = 0; wait < 100 && server.sessions > 0; wait += 1) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(server.sessions).toBe(0);
  });
});

describe('the pool', () => {
  test('shares sessions by identity and address, and respects the limit of streams', async () => {
    const { port, server } = await serve(echo, { maxStreams: 10 });
    const pool = createHbonePool({
      dial: () => connect({ port, host: '127.0.0.1' }),
      certificate: () => Promise.resolve(clientCertificate),
    });
    closing.push(() => pool.destroy(() => true));
    const key = {
      source: clientCertificate.identity,
      sourceIp: '10.0.0.9',
      nextHop: { ip: '127.0.0.1', port },
      expected: new Set([serverUri]),
    } as unknown as Parameters<typeof pool.connect>[0];
    const tunnels = await Promise.all(
      Array.from({ length: 25 }, () => pool.connect(key, tunnelTo)),
    );
    expect(new Set(tunnels.map(({ session }) => session)).size).toBeLessThanOrEqual(4);
    expect(server.sessions).toBeGreaterThanOrEqual(3);
    const other = await pool.connect(
      { ...key, sourceIp: '10.0.0.8' as typeof key.sourceIp },
      tunnelTo,
    );
    expect(tunnels.some(({ session }) => session === other.session)).toBe(false);
    for (const { stream } of [...tunnels, other]) stream.abort(new Error('done'));
    pool.retire(() => true);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(pool.size).toBe(0);
  });

  test('a peer of another identity is refused', async () => {
    const { port } = await serve(echo);
    const socket = connect({ port, host: '127.0.0.1' });
    const identities = new Set(['spiffe://cluster.local/ns/b/sa/other' as SpiffeId]);
    const attempt = connectSession({
      socket,
      certificate: clientCertificate,
      expected: { kind: 'identities', identities },
    });
    await expect(attempt).rejects.toMatchObject({ code: 'tls/unexpected-identity' });
  });
});

describe('an independent peer', () => {
  test('node:http2 as the client', async () => {
    const { port } = await serve(echo);
    const client = http2Connect('https://0.0.0.0', {
      createConnection: () =>
        tlsConnect({
          port,
          host: '127.0.0.1',
          ALPNProtocols: ['h2'],
          cert: clientCertificate.chain.join(''),
          key: clientCertificate.privateKey,
          ca: [ca.rootPem],
          checkServerIdentity: () => undefined,
        }),
    });
    closing.push(() => client.destroy());
    const stream = client.request({
      [h2.HTTP2_HEADER_METHOD]: 'CONNECT',
      [h2.HTTP2_HEADER_AUTHORITY]: '10.0.0.1:80',
    });
    const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
    expect(headers[':status']).toBe(200);
    stream.end(Buffer.alloc(300_000, 'z'));
    const answer = Buffer.concat((await stream.toArray()) as Buffer[]);
    expect(answer.length).toBe(300_000);
    const wrong = client.request({ ':path': '/', ':method': 'GET' });
    const [refused] = (await once(wrong, 'response')) as [Record<string, unknown>];
    expect(refused[':status']).toBe(405);
  });
});

describe('a hostile peer', () => {
  async function raw(port: number): Promise<Socket> {
    const socket = tlsConnect({
      port,
      host: '127.0.0.1',
      ALPNProtocols: ['h2'],
      cert: clientCertificate.chain.join(''),
      key: clientCertificate.privateKey,
      ca: [ca.rootPem],
      checkServerIdentity: () => undefined,
    });
    socket.on('error', () => undefined);
    closing.push(() => socket.destroy());
    await once(socket, 'secureConnect');
    return socket;
  }
  const hello = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0)]);
  const increment = Buffer.from([0, 0, 0, 1]);
  const connectBlock = Buffer.concat([
    Buffer.from([0, 7]),
    Buffer.from(':method'),
    Buffer.from([7]),
    Buffer.from('CONNECT'),
    Buffer.from([0, 10]),
    Buffer.from(':authority'),
    Buffer.from([11]),
    Buffer.from('10.0.0.1:80'),
  ]);

  async function cutWithin(socket: Socket, deadlineMs: number): Promise<boolean> {
    socket.resume();
    if (socket.destroyed) return true;
    return Promise.race([
      new Promise<boolean>((resolve) => socket.once('close', () => resolve(true))),
      new Promise<boolean>((resolve) => setTimeout(() => resolve(false), deadlineMs)),
    ]);
  }

  test.each([
    ['SETTINGS', frame(4, 0, 0)],
    ['PING', frame(6, 0, 0, Buffer.alloc(8))],
    ['PRIORITY', frame(2, 0, 1, Buffer.alloc(5))],
    ['WINDOW_UPDATE by one', frame(8, 0, 0, increment)],
    ['empty DATA', frame(0, 0, 1)],
    ['frames of unknown types', frame(200, 0, 0)],
  ])('a flood of %s is cut', async (_, flood) => {
    const { port } = await serve(echo);
    const socket = await raw(port);
    socket.write(Buffer.concat([hello, frame(1, 4, 1, connectBlock)]));
    for (let burst = 0; burst < 40 && !socket.destroyed; burst += 1) {
      socket.write(Buffer.concat(new Array<Buffer>(200).fill(flood)));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await cutWithin(socket, 5000)).toBe(true);
  });

  test('DATA on a stream that has ended is cut', async () => {
    const { port } = await serve((request) => request.accept([])?.end());
    const socket = await raw(port);
    const one = frame(0, 0, 1, Buffer.alloc(1));
    socket.write(Buffer.concat([hello, frame(1, 4, 1, connectBlock), frame(0, 1, 1)]));
    for (let burst = 0; burst < 40 && !socket.destroyed; burst += 1) {
      socket.write(Buffer.concat(new Array<Buffer>(200).fill(one)));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await cutWithin(socket, 5000)).toBe(true);
  });

  test('a small block that refers to large table entries again and again is cut', async () => {
    const { port } = await serve(echo);
    const socket = await raw(port);
    const large = Buffer.alloc(3000, 'x');
    // Literal with incremental indexing: name `a`, a value of 3,000 bytes; then the entry 62, thousands of times.
    const entry = Buffer.concat([Buffer.from([0x40, 1, 0x61, 0x7f, 0xb9, 0x16]), large]);
    const bomb = Buffer.concat([connectBlock, entry, Buffer.alloc(8000, 0x80 | 62)]);
    socket.write(Buffer.concat([hello, frame(1, 4, 1, bomb)]));
    expect(await cutWithin(socket, 5000)).toBe(true);
  });

  test('many short connections on one session are no flood, however they end', async () => {
    const { port } = await serve((request) => {
      const stream = request.accept([]);
      stream?.attach({
        data: (chunk) => void stream.write(Buffer.from(chunk)),
        end: () => stream.end(),
        drain: () => undefined,
        close: () => undefined,
      });
    });
    const session = await open(port);
    const short = async (index: number): Promise<void> => {
      const { stream } = await session.openTunnel(tunnelTo);
      await new Promise<void>((resolve, reject) => {
        stream.attach({
          data: () => {
            if (index % 2 === 0) stream.end();
            else stream.abort(new Error('the client went away'));
          },
          end: () => undefined,
          drain: () => undefined,
          close: (error) => (error === undefined || index % 2 === 1 ? resolve() : reject(error)),
        });
        stream.write(Buffer.from('ping'));
      });
    };
    for (let batch = 0; batch < 100; batch += 1) {
      await Promise.all(Array.from({ length: 40 }, (_, index) => short(index)));
    }
    expect(session.session.streams.size).toBe(0);
    expect((await exchange(session, Buffer.from('still here'))).toString()).toBe('still here');
  });

  test('rapid reset is cut', async () => {
    const { port } = await serve(echo);
    const socket = await raw(port);
    const frames: Buffer[] = [hello];
    for (let id = 1; id < 4000; id += 2)
      frames.push(frame(1, 4, id, connectBlock), frame(3, 0, id, Buffer.from([0, 0, 0, 8])));
    socket.write(Buffer.concat(frames));
    expect(await cutWithin(socket, 5000)).toBe(true);
  });

  test.each([
    [
      'a header block in endless CONTINUATION',
      Buffer.concat([
        hello,
        frame(1, 0, 1, connectBlock),
        ...new Array<Buffer>(20).fill(frame(9, 0, 1, Buffer.alloc(10))),
      ]),
    ],
    ['DATA on stream zero', Buffer.concat([hello, frame(0, 0, 0, Buffer.alloc(1))])],
    [
      'DATA on a stream that was never opened',
      Buffer.concat([hello, frame(0, 0, 5, Buffer.alloc(1))]),
    ],
    [
      'no SETTINGS first',
      Buffer.concat([
        Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
        frame(6, 0, 0, Buffer.alloc(8)),
      ]),
    ],
    ['another protocol', Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n')],
    [
      'a window that overflows',
      Buffer.concat([hello, frame(8, 0, 0, Buffer.from([0x7f, 0xff, 0xff, 0xff]))]),
    ],
    ['an even stream', Buffer.concat([hello, frame(1, 4, 2, connectBlock)])],
    ['a malformed header block', Buffer.concat([hello, frame(1, 4, 1, Buffer.from([0x80]))])],
    ['a push', Buffer.concat([hello, frame(5, 4, 1, Buffer.alloc(4))])],
  ])('%s ends the session', async (_, bytes) => {
    const { port } = await serve(echo);
    const socket = await raw(port);
    socket.write(bytes);
    expect(await cutWithin(socket, 3000)).toBe(true);
  });

  test('deadlines before identity: silence is cut at every stage', async () => {
    const { port } = await serve(echo, { prefaceTimeoutMs: 300, headerTimeoutMs: 300 });
    const silent = connect({ port, host: '127.0.0.1' });
    const half = connect({ port, host: '127.0.0.1' });
    half.write(Buffer.from('160301', 'hex'));
    const noPreface = await raw(port);
    const halfHeaders = await raw(port);
    halfHeaders.write(Buffer.concat([hello, frame(1, 0, 1, connectBlock)]));
    for (const socket of [silent, half]) socket.on('error', () => undefined);
    const cut = await Promise.all(
      [silent, half, noPreface, halfHeaders].map((socket) => cutWithin(socket, 3000)),
    );
    expect(cut).toEqual([true, true, true, true]);
  });

  test('a foreign trust domain, no certificate, an expired one and a foreign root are turned away in the handshake', async () => {
    const { port, rejected } = await serve(echo);
    const foreign = await makeTestCa();
    const attempts = [
      await ca.certificate('spiffe://evil.example/ns/a/sa/client'),
      await foreign.certificate(clientUri, { roots: [ca.rootPem] }),
    ];
    for (const certificate of attempts) {
      const outcome = await open(port, certificate)
        .then((session) => session.openTunnel(tunnelTo))
        .catch((error: unknown) => error);
      expect(outcome).toMatchObject({ code: expect.stringMatching(/^(hbone|http2|tls)\//) });
      expect(outcome).not.toBeInstanceOf(TunnelRefused);
    }
    const bare = tlsConnect({
      port,
      host: '127.0.0.1',
      ALPNProtocols: ['h2'],
      ca: [ca.rootPem],
      checkServerIdentity: () => undefined,
    });
    bare.on('error', () => undefined);
    expect(await cutWithin(bare, 2000)).toBe(true);
    expect(rejected.length).toBeGreaterThanOrEqual(2);
  });
});

import { createHash } from 'node:crypto';
import { connect as connectHttp2, createServer } from 'node:http2';
import type { ClientHttp2Session, Http2Server, ServerHttp2Stream } from 'node:http2';
import type { AddressInfo, Server } from 'node:net';
import { connect, createServer as createTcpServer } from 'node:net';
import { once } from 'node:events';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { FieldList, SessionHandlers, SessionLimits } from '../src/index.ts';
import { Session, errorCode, socketStream, streamTransport } from '../src/index.ts';
import { limitsOf } from './frames.ts';

/** Sessions that carry requests, with nghttp2 as Node has it at the other end. */
const limits = limitsOf(128 * 1024, 256 * 1024);

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

let seed = 11;
function below(limit: number): number {
  seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 1;
  return (seed >>> 8) % limit;
}

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const noise = (bytes: number): Buffer => Buffer.alloc(bytes, `noise ${below(1_000_000)} `);
const ignore: SessionHandlers = {
  headers: () => undefined,
  streamClosed: () => undefined,
  goaway: () => undefined,
  closed: () => undefined,
};

async function listen(server: Server | Http2Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as AddressInfo).port;
}

/** Our server; each session gets handlers of its own. */
async function serve(
  handlersOf: (session: () => Session) => Partial<SessionHandlers>,
  ours: Partial<SessionLimits> = {},
): Promise<number> {
  const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
    const session: Session = new Session(streamTransport(socketStream(socket)), {
      role: 'server',
      carries: 'requests',
      limits: { ...limits, ...ours },
      handlers: { ...ignore, ...handlersOf(() => session) },
    });
    session.start();
    closing.push(() => session.destroy());
  });
  return listen(server);
}

function nodeClient(port: number, settings = {}): ClientHttp2Session {
  const session = connectHttp2(`http://127.0.0.1:${port}`, { settings });
  session.on('error', () => undefined);
  closing.push(() => session.destroy());
  return session;
}

interface Answer {
  readonly head: Record<string, unknown>;
  readonly body: Buffer;
  readonly trailers: Record<string, unknown>;
  readonly reset: number | undefined;
}

function ask(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body: Buffer,
  slowly = false,
): Promise<Answer> {
  return new Promise((resolve) => {
    const stream = session.request({ ':method': 'POST', ...headers });
    const chunks: Buffer[] = [];
    let head = {};
    let trailers = {};
    stream.on('response', (one) => (head = { ...one }));
    stream.on('trailers', (one) => (trailers = { ...one }));
    stream.on('error', () => undefined);
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      if (!slowly) return;
      stream.pause();
      setTimeout(() => stream.resume(), 1);
    });
    stream.on('close', () =>
      resolve({ head, body: Buffer.concat(chunks), trailers, reset: stream.rstCode }),
    );
    stream.end(body);
  });
}

/** Sends each body back, with back pressure both ways, and its digest behind it. */
function echo(session: () => Session): Partial<SessionHandlers> {
  const received = new Map<number, FieldList>();
  return {
    headers: (id, { fields }, endStream) => {
      if (received.has(id)) {
        received.set(id, fields);
        return;
      }
      received.set(id, []);
      const stream = session().respond(id, [':status', '200', 'x-end', String(endStream)]);
      if (stream === undefined) throw new Error('no stream');
      const hash = createHash('sha256');
      stream.attach({
        data: (chunk) => {
          hash.update(chunk);
          if (!stream.write(chunk)) stream.pause();
        },
        drain: () => stream.resume(),
        end: () => stream.end(['x-digest', hash.digest('hex'), ...(received.get(id) ?? [])]),
        close: () => received.delete(id),
      });
    },
  };
}

describe('a server, asked by nghttp2', () => {
  test.each([
    ['windows as they come', {}],
    ['a window of one byte', { initialWindowSize: 1 }],
    ['no table of fields', { headerTableSize: 0 }],
    ['a small one', { headerTableSize: 100 }],
  ])(
    'bodies of all sizes both ways at once: %s',
    async (_name, settings) => {
      const session = nodeClient(await serve(echo), settings);
      const largest = 'initialWindowSize' in settings ? 20 : 700_000;
      const sizes = [
        0,
        1,
        9,
        16_384,
        16_385,
        131_072,
        ...Array.from({ length: 20 }, () => below(largest)),
      ];
      await Promise.all(
        sizes.map(async (size, index) => {
          const body = noise(Math.min(size, largest));
          const answer = await ask(session, { ':path': `/${index}` }, body, index % 5 === 0);
          expect(answer.reset).toBe(0);
          expect(answer.head[':status']).toBe(200);
          expect(digest(answer.body)).toBe(digest(body));
          expect(answer.trailers['x-digest']).toBe(digest(body));
        }),
      );
    },
    30_000,
  );

  test('five thousand requests on one connection, none refused', async () => {
    const session = nodeClient(
      await serve((own) => ({
        headers: (id) => {
          // What is answered is honest work; who serves gives it back.
          own().earn(20);
          own().respond(id, [':status', '204'], true);
        },
      })),
    );
    let answered = 0;
    const worker = async (): Promise<void> => {
      for (let left = 500; left > 0; left -= 1) {
        const { head, reset } = await ask(session, { ':path': '/' }, Buffer.alloc(0));
        if (head[':status'] === 204 && reset === 0) answered += 1;
      }
    };
    await Promise.all(Array.from({ length: 10 }, worker));
    expect(answered).toBe(5_000);
  }, 30_000);

  test('fields as nghttp2 writes them, Huffman and table: each as it was', async () => {
    const seen: FieldList[] = [];
    const session = nodeClient(
      await serve((own) => ({
        headers: (id, { fields }) => {
          seen.push(fields);
          own().earn(20);
          own().respond(id, [':status', '204'], true);
        },
      })),
    );
    const printable = Array.from({ length: 94 }, (_, at) => String.fromCharCode(33 + at)).join('');
    for (let round = 0; round < 300; round += 1) {
      const headers: Record<string, string> = { ':path': `/${round}` };
      for (let left = below(10); left > 0; left -= 1) {
        const from = below(90);
        headers[`x-${below(20)}`] = printable
          .slice(from, from + 1 + below(90))
          .repeat(1 + below(3));
      }
      await ask(session, headers, Buffer.alloc(0));
      const fields = seen.at(-1) ?? [];
      for (const [name, value] of Object.entries(headers)) {
        expect(fields[fields.indexOf(name) + 1]).toBe(value);
      }
    }
  }, 30_000);

  test('requests that are answered before their bodies were read take no credit with them', async () => {
    const session = nodeClient(
      await serve((own) => ({
        headers: (id) => {
          own().earn(20);
          setTimeout(() => own().respond(id, [':status', '403'], true), 2);
        },
      })),
    );
    // Together forty times the window of the connection.
    for (let round = 0; round < 200; round += 1) {
      const { head } = await ask(session, { ':path': '/' }, noise(50_000));
      expect(head[':status']).toBe(403);
    }
  }, 30_000);

  test('a stream that is not read holds its window, and the connection goes on', async () => {
    const port = await serve((own) => ({
      headers: (id, { fields }) => {
        if (fields.includes('/read')) own().respond(id, [':status', '204'], true);
      },
    }));
    const session = nodeClient(port);
    const stuck = session.request({ ':method': 'POST', ':path': '/stuck' });
    stuck.on('error', () => undefined);
    stuck.write(noise(400_000));
    const { head } = await ask(session, { ':path': '/read' }, Buffer.alloc(0));
    expect(head[':status']).toBe(204);
    expect(session.state.remoteWindowSize).toBeGreaterThanOrEqual(
      limits.connectionWindowBytes - limits.streamWindowBytes - 32 * 1024,
    );
  });

  test('a drain takes what was on its way, and ends when that is over', async () => {
    const made: Session[] = [];
    const port = await serve((own) => ({
      headers: (id) => {
        made.push(own());
        setTimeout(() => own().respond(id, [':status', '200'], true), 100);
      },
    }));
    const session = nodeClient(port);
    const early = ask(session, { ':path': '/early' }, Buffer.alloc(0));
    while (made.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    made[0]?.drain();
    const late = ask(session, { ':path': '/late' }, Buffer.alloc(0));
    expect((await early).head[':status']).toBe(200);
    expect((await late).head[':status']).toBe(200);
    if (!session.closed) await once(session, 'close');
  });
});

describe('a client, answered by nghttp2', () => {
  /** Our client against Node's own server. */
  async function ours(
    onStream: (stream: ServerHttp2Stream, headers: Record<string, unknown>) => void,
    handlers: Partial<SessionHandlers> = {},
    settings = {},
  ): Promise<Session> {
    const server = createServer({ settings });
    server.on('stream', (stream: ServerHttp2Stream, headers) => {
      stream.on('error', () => undefined);
      onStream(stream, headers);
    });
    server.on('session', (one) => closing.push(() => one.destroy()));
    const port = await listen(server);
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    const session = new Session(streamTransport(socketStream(socket)), {
      role: 'client',
      carries: 'requests',
      limits,
      handlers: { ...ignore, ...handlers },
    });
    session.start();
    closing.push(() => session.destroy());
    return session;
  }

  const post = (path: string): FieldList => [
    ...[':method', 'POST', ':scheme', 'http', ':authority', 'a.test', ':path', path],
    ...['user-agent', 'ours', 'cookie', 'a=b'],
  ];

  test.each([
    ['windows as they come', {}],
    ['a window of one byte', { initialWindowSize: 1 }],
    ['no table of fields', { headerTableSize: 0 }],
  ])(
    'bodies of all sizes both ways at once: %s',
    async (_name, settings) => {
      const heads = new Map<number, FieldList[]>();
      const session = await ours(
        (stream, headers) => {
          stream.respond(
            { ':status': 200, 'x-agent': String(headers['user-agent']) },
            { waitForTrailers: true },
          );
          stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': 'there' }));
          stream.pipe(stream);
        },
        { headers: (id, { fields }) => heads.set(id, [...(heads.get(id) ?? []), fields]) },
        settings,
      );
      const largest = 'initialWindowSize' in settings ? 20 : 700_000;
      await Promise.all(
        Array.from({ length: 20 }, async (_, index) => {
          const body = noise(index === 0 ? 0 : below(largest));
          const stream = session.request(post(`/${index}`));
          const chunks: Buffer[] = [];
          await new Promise<void>((resolve, reject) => {
            stream.attach({
              data: (chunk) => {
                chunks.push(chunk);
                if (index % 4 !== 0) return;
                stream.pause();
                setTimeout(() => stream.resume(), 1);
              },
              drain: () => undefined,
              end: () => resolve(),
              close: (error) => {
                if (error !== undefined) reject(error);
              },
            });
            stream.write(body);
            stream.end();
          });
          expect(digest(Buffer.concat(chunks))).toBe(digest(body));
          const [head, trailers] = heads.get(stream.id) ?? [];
          expect(head).toEqual(expect.arrayContaining([':status', '200', 'x-agent', 'ours']));
          expect(trailers).toEqual(['x-sum', 'there']);
        }),
      );
    },
    30_000,
  );

  test('a stream that the server refuses may be tried elsewhere, one that it reset may not', async () => {
    const session = await ours((stream, headers) =>
      stream.close(headers[':path'] === '/refused' ? errorCode.refusedStream : errorCode.internal),
    );
    for (const [path, retryable] of [
      ['/refused', true],
      ['/reset', false],
    ] as const) {
      const error = await new Promise((resolve) =>
        session.request(post(path), true).attach({
          data: () => undefined,
          drain: () => undefined,
          end: () => resolve('an end'),
          close: resolve,
        }),
      );
      expect(error).toMatchObject({ code: 'http2/reset', retryable });
    }
  });

  test('a whole answer stays one, though the server wants no more of the request', async () => {
    const session = await ours((stream) => {
      stream.respond({ ':status': 200 });
      stream.end('enough');
      setTimeout(() => stream.close(errorCode.none), 20);
    });
    const stream = session.request(post('/'));
    stream.pause();
    let body = '';
    const over = new Promise((resolve) =>
      stream.attach({
        data: (chunk) => (body += chunk.toString()),
        drain: () => undefined,
        end: () => undefined,
        close: resolve,
      }),
    );
    // Read only after the reset has come.
    while (session.streams.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    stream.resume();
    expect(await over).toBeUndefined();
    expect(body).toBe('enough');
  });
});

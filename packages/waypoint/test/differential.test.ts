import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect, createServer } from 'node:http2';
import type { ClientHttp2Session, Http2Server, ServerHttp2Stream } from 'node:http2';
import type { Readable, Writable } from 'node:stream';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Backend, WaypointWorld } from './world.ts';
import { startBackend, startWorldOfBoth } from './world.ts';

/** Random whole exchanges, the same seed each time: what arrives is what was sent, or it is seen to be cut. */
let world: WaypointWorld;
let plain: Backend;
let h2: Http2Server;

let seed = 20_26;
function below(limit: number): number {
  seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 1;
  return (seed >>> 8) % limit;
}

/** One exchange; the endpoint reads its part from the path. */
interface Exchange {
  readonly id: number;
  readonly request: number;
  readonly answer: number;
  /** When the endpoint answers: after the request, at its head, or never whole. */
  readonly when: 'after' | 'early' | 'cut';
  readonly pauses: boolean;
  readonly cancels: boolean;
}

const sizes = [0, 1, 100, 5_000, 16_384, 16_385, 70_000, 300_000];
function draw(id: number): Exchange {
  const when = (['after', 'after', 'early', 'cut'] as const)[below(4)] ?? 'after';
  const request = sizes[below(sizes.length)] ?? 0;
  const answer = (sizes[below(sizes.length)] ?? 0) + (when === 'cut' ? 20_000 : 0);
  return { id, request, answer, when, pauses: below(3) === 0, cancels: below(8) === 0 };
}

const bytesOf = (id: number, kind: string, size: number): Buffer =>
  Buffer.alloc(size, `${kind}-${id};`);
const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** Writes in pieces and pauses between them. */
async function writeSlowly(to: Writable, bytes: Buffer): Promise<void> {
  const step = Math.max(1, Math.ceil(bytes.length / 4));
  for (let at = 0; at < bytes.length; at += step) {
    to.write(bytes.subarray(at, at + step));
    await new Promise((resolve) => setTimeout(resolve, at % 3));
  }
}

async function readAll(from: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of from) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

interface Answering {
  readonly body: Readable;
  readonly begin: () => Writable;
  readonly end: (sum: string) => void;
  readonly cut: () => void;
}

async function answer(path: string, { body, begin, end, cut }: Answering): Promise<void> {
  const [, id = '', size = '', when = ''] = path.split('/');
  const sent = bytesOf(Number(id), 'answer', Number(size));
  const received = readAll(body).catch(() => undefined);
  if (when === 'after') {
    const all = await received;
    if (all === undefined) return;
    await writeSlowly(begin(), sent);
    end(digest(all));
    return;
  }
  await writeSlowly(begin(), sent);
  if (when === 'cut') cut();
  else end('early');
}

beforeAll(async () => {
  plain = await startBackend('plain', (request: IncomingMessage, response: ServerResponse) => {
    response.on('error', () => undefined);
    void answer(request.url ?? '', {
      body: request,
      begin: () => response.writeHead(200, { trailer: 'x-sum' }),
      end: (sum) => {
        response.addTrailers({ 'x-sum': sum });
        response.end();
      },
      cut: () => request.socket.destroy(),
    });
  });
  h2 = createServer();
  h2.on('stream', (opened, headers) => {
    const stream = opened as ServerHttp2Stream;
    stream.on('error', () => undefined);
    let sum = '';
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': sum }));
    void answer(headers[':path'] ?? '', {
      body: stream,
      begin: () => {
        if (!stream.destroyed) stream.respond({ ':status': 200 }, { waitForTrailers: true });
        return stream;
      },
      end: (text) => {
        sum = text;
        stream.end();
      },
      cut: () => stream.close(2),
    });
  });
  world = await startWorldOfBoth(plain, h2, '127.0.4.8');
}, 30_000);

afterAll(async () => {
  await world.close();
  await plain.close();
  await new Promise<void>((resolve) => h2.close(() => resolve()));
});

/** What was wrong with the exchange, if anything. */
async function exchange(session: ClientHttp2Session, drawn: Exchange): Promise<string | undefined> {
  const { id, request, answer: size, when, pauses, cancels } = drawn;
  const stream = session.request({
    ':method': 'POST',
    ':path': `/${id}/${size}/${when}`,
  });
  const sent = bytesOf(id, 'request', request);
  const chunks: Buffer[] = [];
  let status = 0;
  let sum: unknown;
  stream.on('response', (fields) => (status = Number(fields[':status'])));
  stream.on('trailers', (fields) => (sum = fields['x-sum']));
  stream.on('error', () => undefined);
  stream.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    if (!pauses) return;
    stream.pause();
    setTimeout(() => stream.resume(), 1);
  });
  const closed = new Promise((resolve) => stream.once('close', resolve));
  if (cancels) setTimeout(() => stream.close(8), id % 7);
  await writeSlowly(stream, sent);
  stream.end();
  await closed;
  const body = Buffer.concat(chunks);
  const wanted = bytesOf(id, 'answer', size);
  // Whatever came is the beginning of what was meant for us.
  if (status === 200 && !wanted.subarray(0, body.length).equals(body)) return 'other bytes';
  const whole = status === 200 && sum !== undefined;
  if (when === 'cut') return whole ? 'a half that is whole' : undefined;
  if (cancels && !whole) return undefined;
  if (!whole) return `no answer: ${status} ${stream.rstCode}`;
  if (!body.equals(wanted)) return `${body.length} bytes of ${wanted.length}`;
  return sum === 'early' || sum === digest(sent) ? undefined : 'another request';
}

const active = (): number =>
  [...world.waypoint.context.clusters].reduce((total, { requests }) => total + requests, 0);

test.each([
  ['HTTP/1.1', 80],
  ['HTTP/2', 81],
])(
  'hundreds of exchanges with an endpoint of %s are those that were sent',
  async (_name, port) => {
    const tunnel = await world.tunnel(port);
    const session = connect('http://shop.test', { createConnection: () => tunnel });
    session.on('error', () => undefined);
    const wrong: string[] = [];
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < 300) {
        next += 1;
        const drawn = draw(next);
        const why = await exchange(session, drawn);
        if (why !== undefined) wrong.push(`${why}: ${JSON.stringify(drawn)}`);
      }
    };
    await Promise.all(Array.from({ length: 20 }, worker));
    expect(wrong).toEqual([]);
    expect(session.closed).toBe(false);
    expect(active()).toBe(0);
    session.destroy();
  },
  30_000,
);

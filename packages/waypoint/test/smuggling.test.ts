import type { IncomingHttpHeaders } from 'node:http';
import { METHODS } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { normalizePath } from '@ambit/core';
import { LenientReader } from './lenient.ts';
import type { Read } from './mutations.ts';
import { byNode, byUs, firstSeed, fuzzCount, mutated, randomOf } from './mutations.ts';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startBackend, startWorld } from './world.ts';

/** Smuggling (security.md T11) through a whole waypoint, to a server of Node's and to one that takes anything. */
interface Recorded extends Read {
  readonly id: number;
}

let world: WaypointWorld;
let backend: Backend;
const lanes = 6;
const rounds = fuzzCount === 0 ? 5_000 : fuzzCount;
const recorded = new Map<string, Recorded[]>();
const sockets = new Set<Socket>();
let nextId = 0;
let malformed = 0;

/** Whose request it was, as the waypoint says. */
function record(path: string, xfcc: string, head: string): Recorded {
  const lane = `${/URI=[^;]*\/sa\/([\w-]+)/.exec(xfcc)?.[1] ?? 'nobody'}${path}`;
  nextId += 1;
  const one: Recorded = { id: nextId, head, body: undefined };
  const list = recorded.get(lane);
  if (list === undefined) recorded.set(lane, [one]);
  else list.push(one);
  return one;
}

const xfccOf = (headers: IncomingHttpHeaders): string =>
  String(headers['x-forwarded-client-cert'] ?? '');

const raw = createServer((socket) => {
  sockets.add(socket);
  socket.on('error', () => undefined);
  let one: Recorded | undefined;
  const reader = new LenientReader({
    head: (method, path, fields) => {
      one = record('-raw', fields.get('x-forwarded-client-cert') ?? '', `${method} ${path}`);
    },
    end: (body) => {
      if (one === undefined) return;
      one.body = body;
      const text = `<${one.id}>`;
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\n\r\n${text}`);
    },
    malformed: () => (malformed += 1),
  });
  socket.on('data', (chunk: Buffer) => reader.push(chunk));
});

beforeAll(async () => {
  backend = await startBackend('node', (request, response) => {
    const { method = '', url = '' } = request;
    const one = record('', xfccOf(request.headers), `${method} ${url}`);
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('error', () => undefined);
    request.on('end', () => {
      if (request.complete) one.body = Buffer.concat(chunks).toString('latin1');
      response.end(`<${one.id}>`);
    });
  });
  backend.server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    // Of methods Node knows a list; that of RFC 9110 has no end.
    if (error.code?.startsWith('HPE_') === true && error.code !== 'HPE_INVALID_METHOD')
      malformed += 1;
    socket.destroy();
  });
  await new Promise<void>((resolve) => raw.listen(0, '127.0.3.2', resolve));
  const { port } = raw.address() as AddressInfo;
  world = await startWorld({
    services: [
      shopService({
        ports: [80, 81].map((number) => ({
          name: `http-${number}`,
          port: number,
          appProtocol: '',
        })),
      }),
    ],
    workloads: [
      endpointOf(backend),
      endpointOf(
        { name: 'raw', ip: '127.0.3.2', port } as Backend,
        {},
        {
          services: [
            { service: shopKey, ready: true, ports: [{ servicePort: 81, targetPort: port }] },
          ],
        },
      ),
    ],
  });
}, 30_000);

afterAll(async () => {
  await world.close();
  await backend.close();
  for (const socket of sockets) socket.destroy();
  await new Promise<void>((resolve) => raw.close(() => resolve()));
});

/** Sends all of it, and reads until the other side has ended too. */
async function send(stream: Duplex, bytes: Buffer): Promise<string> {
  const chunks: Buffer[] = [];
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => {
      reject(new Error(`no end of ${JSON.stringify(bytes.toString('latin1'))}`));
    }, 15_000);
    const over = (): void => {
      clearTimeout(late);
      resolve(Buffer.concat(chunks).toString('latin1'));
    };
    stream.on('error', over);
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', over);
    stream.on('close', over);
    stream.end(bytes);
  });
}

const idsIn = (text: string): number[] =>
  [...text.matchAll(/<(\d+)>/g)].map(([, id]) => Number(id));

/** As the waypoint hands it on, or nothing where the path is refused. */
function handedOn({ head, body }: Read): Read[] {
  const at = head.indexOf(' ');
  const path = normalizePath(head.slice(at + 1));
  return path.ok ? [{ head: `${head.slice(0, at)} ${path.value}`, body }] : [];
}

/** What arrived that nobody sent: each stands for one that was sent, and none for two. */
function unsent(arrived: readonly Recorded[], sent: readonly Read[]): Recorded[] {
  const left = new Map<string, Read[]>();
  for (const read of sent) {
    const same = left.get(read.head);
    if (same === undefined) left.set(read.head, [read]);
    else same.push(read);
  }
  return arrived.filter((one) => {
    if (!METHODS.includes(one.head.split(' ')[0] ?? '')) return false;
    const same = left.get(one.head) ?? [];
    const at = same.findIndex(
      ({ body }) => body === undefined || one.body === undefined || body === one.body,
    );
    return at < 0 || same.splice(at, 1).length === 0;
  });
}

test(
  `nothing arrives at an endpoint that no client sent (${rounds} mutated messages from seed ${firstSeed})`,
  async () => {
    const sent = new Map<string, Read[]>();
    const answered: number[] = [];
    const work = Array.from({ length: lanes }, async (_, lane) => {
      for (let seed = firstSeed + lane; seed < firstSeed + rounds; seed += lanes) {
        const port = seed % 12 < 6 ? 80 : 81;
        const { bytes, seed: whole } = mutated(randomOf(seed), `${seed}/`);
        const key = `lane-${lane}${port === 80 ? '' : '-raw'}`;
        // Node stops at a method that it does not know, and could not say what follows.
        if (!byUs(bytes).every(({ head }) => METHODS.includes(head.split(' ')[0] ?? ''))) continue;
        const text = await send(await world.tunnel(port, `lane-${lane}`), bytes);
        const reads = (await byNode(bytes)).flatMap(handedOn);
        const list = sent.get(key);
        if (list === undefined) sent.set(key, reads);
        else list.push(...reads);
        const ids = idsIn(text);
        answered.push(...ids);
        if (whole !== undefined && !whole.includes('Transfer-Encoding: chunked\r\n\r\n0')) {
          expect({ seed, ids: ids.length }).toEqual({
            seed,
            ids: whole.split(' HTTP/1.1').length - 1,
          });
        }
      }
    });
    await Promise.all(work);
    let count = 0;
    for (const [key, arrived] of recorded) {
      count += arrived.length;
      expect({ key, strange: unsent(arrived, sent.get(key) ?? []) }).toEqual({ key, strange: [] });
    }
    expect(malformed).toBe(0);
    // No answer twice, and none that is another's.
    const ids = new Set([...recorded.values()].flat().map(({ id }) => id));
    expect(new Set(answered).size).toBe(answered.length);
    expect(answered.filter((id) => !ids.has(id))).toEqual([]);
    expect(answered.length).toBeGreaterThan(rounds / 10);
    expect(count).toBeGreaterThanOrEqual(answered.length);
  },
  60_000 + rounds * 20,
);

test('one tunnel of a session in which nonsense comes takes nothing from the others', async () => {
  let over = false;
  const statuses = new Set<number>();
  const asking = Array.from({ length: 10 }, async () => {
    while (!over) statuses.add((await world.ask({ as: 'lane-0' })).status);
  });
  for (const bytes of [
    'nonsense\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a\nHost: b\r\n\r\n',
    'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense',
    '\0\x01\x02'.repeat(10_000),
  ]) {
    for (let round = 0; round < 5; round += 1) {
      const text = await send(await world.tunnel(80, 'lane-0'), Buffer.from(bytes, 'latin1'));
      expect(idsIn(text)).toEqual([]);
    }
  }
  over = true;
  await Promise.all(asking);
  expect([...statuses]).toEqual([200]);
});

test('a request goes to the service that its tunnel is for, whatever host it names', async () => {
  const before = recorded.get('lane-0')?.length ?? 0;
  for (const host of ['other.test', '10.96.0.9:8080', 'kubernetes.default.svc']) {
    const { status } = await world.ask({ as: 'lane-0', authority: host, path: '/host' });
    expect(status).toBe(200);
  }
  const arrived = recorded.get('lane-0')?.slice(before) ?? [];
  expect(arrived.map(({ head }) => head)).toEqual(['GET /host', 'GET /host', 'GET /host']);
});

import type { Http2Server, ServerHttp2Stream } from 'node:http2';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo, Server } from 'node:net';
import { createServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { createServer as createTlsServer, connect as connectTls } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { PolicyKey } from '@ambit/api';
import { forward, match, route, subsets, to } from './nouns.ts';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startBackend, startWorld } from './world.ts';

/** Everything that lasts, through one waypoint, while policies change. */
let world: WaypointWorld;
let http: Backend;
let tcp: Server;
let tls: Server;
let grpc: Http2Server;

const echoing = (socket: Duplex): void => {
  socket.on('error', () => undefined);
  socket.pipe(socket);
};
const portOf = (server: { address(): unknown }): number => (server.address() as AddressInfo).port;
const listening = (server: Server | Http2Server, ip: string): Promise<void> =>
  new Promise((resolve) => void server.listen(0, ip, resolve));

beforeAll(async () => {
  http = await startBackend('http', (request, response) => {
    if (request.url === '/events') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: 1\n\n');
    } else if (request.url === '/waits') {
      setTimeout(() => response.end('done'), 250);
    } else if (request.url !== '/silent') {
      response.end('ok');
    }
  });
  http.server.on('upgrade', (_request, socket: Duplex) => {
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n',
    );
    echoing(socket);
  });
  tcp = createServer(echoing);
  grpc = createHttp2Server();
  grpc.on('stream', (opened) => {
    const stream = opened as ServerHttp2Stream;
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
    echoing(stream);
  });
  await listening(tcp, '127.0.7.1');
  await listening(grpc, '127.0.7.1');
  const service = (servicePort: number, targetPort: number): Record<string, unknown> => ({
    services: [{ service: shopKey, ready: true, ports: [{ servicePort, targetPort }] }],
  });
  const served = (name: string, server: Parameters<typeof portOf>[0], port: number) =>
    endpointOf({ ...http, name, ip: '127.0.7.1' }, {}, service(port, portOf(server)));
  world = await startWorld({
    services: [
      shopService({
        ports: [
          { name: 'http', port: 80, appProtocol: '' },
          { name: 'grpc', port: 81, appProtocol: '' },
          { name: 'tcp', port: 82, appProtocol: '' },
          { name: 'tls', port: 83, appProtocol: '' },
        ],
      }),
    ],
    workloads: [
      endpointOf(http, { version: 'v1' }),
      served('grpc', grpc, 81),
      served('tcp', tcp, 82),
    ],
    clusters: [subsets],
  });
  const { chain, privateKey } = await world.ca.issue('spiffe://cluster.local/ns/test/sa/server');
  tls = createTlsServer({ cert: chain.join('\n'), key: privateKey }, echoing);
  await listening(tls, '127.0.7.1');
  await world.tell({ workloads: [served('tls', tls, 83)] });
}, 30_000);

afterAll(async () => {
  await world.close();
  await http.close();
  for (const server of [tcp, tls, grpc]) server.close();
});

const told = new Set<string>();
const opened: Lasting[] = [];
afterEach(async () => {
  for (const { stream } of opened.splice(0)) stream.destroy();
  await until(() => world.waypoint.context.live.size === 0);
  const names = [...told].map((name) => ({ type: 'policy' as const, name: name as PolicyKey }));
  told.clear();
  if (names.length > 0) await world.controller.push([], names);
  await world.tell({ routes: [{ service: shopKey, http: [] }] });
});

async function policy(name: string, fields: Record<string, unknown>): Promise<void> {
  told.add(`test/${name}`);
  const scope = { kind: 'targeted', targets: [{ kind: 'service', service: shopKey }] };
  await world.tell({ policies: [{ name, scope, ...fields }] });
}

const from = (account: string) => [
  {
    from: [
      [
        {
          kind: 'connection',
          attribute: 'source.principal',
          values: [{ kind: 'exact', value: `cluster.local/ns/test/sa/${account}` }],
          notValues: [],
        },
      ],
    ],
    to: [],
    when: [],
  },
];

/** Something that lasts: what came, and how it ended. */
class Lasting {
  readonly stream: Duplex;
  text = '';
  cutAt: number | undefined;
  ended = false;

  constructor(stream: Duplex) {
    this.stream = stream;
    opened.push(this);
    stream.on('data', (chunk: Buffer) => (this.text += chunk.toString('latin1')));
    stream.on('end', () => (this.ended = true));
    stream.on('error', () => (this.cutAt ??= performance.now()));
  }

  async sees(text: string): Promise<this> {
    await until(() => this.text.includes(text));
    return this;
  }

  async echoes(text: string): Promise<void> {
    this.stream.write(text);
    await this.sees(text);
  }
}

async function until(holds: () => boolean, ms = 10_000): Promise<void> {
  const deadline = performance.now() + ms;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error('not in time');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function request(text: string, as: string): Promise<Lasting> {
  const one = new Lasting(await world.tunnel(80, as));
  one.stream.write(text.replaceAll('\n', '\r\n'));
  return one;
}

const kinds = {
  TCP: async (as: string) => new Lasting(await world.tunnel(82, as)),
  TLS: async (as: string) => {
    const socket = await world.tunnel(83, as);
    return new Lasting(connectTls({ socket, servername: 'shop.test', rejectUnauthorized: false }));
  },
  WebSocket: async (as: string) =>
    (
      await request('GET /ws HTTP/1.1\nhost: a\nconnection: Upgrade\nupgrade: websocket\n\n', as)
    ).sees('101 Switching'),
  gRPC: async (as: string) => {
    const socket = await world.tunnel(81, as);
    const session = connectHttp2('http://shop.test', { createConnection: () => socket });
    session.on('error', () => undefined);
    return new Lasting(session.request({ ':method': 'POST', 'content-type': 'application/grpc' }));
  },
};

describe.each(Object.entries(kinds))('%s', (_name, open) => {
  test.each([
    ['a DENY policy', { action: 'DENY', rules: from('client') }],
    ['an ALLOW policy for somebody else', { action: 'ALLOW', rules: from('other') }],
    [
      'a CUSTOM policy whose authorizer was not asked',
      { action: 'CUSTOM', provider: 'nobody', rules: from('client') },
    ],
  ])('%s cuts whom it concerns within a second, and nobody else', async (_what, fields) => {
    const mine = await open('client');
    const others = await open('other');
    await mine.echoes('one');
    await others.echoes('one');
    const lines = world.log.length;
    const told = world.access.length;
    const changedAt = performance.now();
    await policy('tighter', fields);
    await until(() => mine.cutAt !== undefined);
    expect((mine.cutAt ?? Infinity) - changedAt).toBeLessThan(1_000);
    expect(mine.ended).toBe(false);
    const log = world.log.slice(lines).filter((line) => line.includes('no longer allowed'));
    expect(log.map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { policy: 'test/tighter', 'src.identity': 'spiffe://cluster.local/ns/test/sa/client' },
    ]);
    await until(() => world.access.slice(told).some((line) => line.includes('test/tighter')));
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(others.cutAt).toBeUndefined();
    await others.echoes('two');
  });
});

const ofPath = (value: string) => [
  {
    from: [],
    to: [
      [
        {
          kind: 'request',
          attribute: { kind: 'path' },
          values: [{ kind: 'exact', value }],
          notValues: [],
        },
      ],
    ],
    when: [],
  },
];

describe('requests', () => {
  test('an endless answer is cut; another stream of the same connection goes on', async () => {
    const socket = await world.tunnel(81);
    const session = connectHttp2('http://shop.test', { createConnection: () => socket });
    const [one, two] = ['/one', '/two'].map(
      (path) => new Lasting(session.request({ ':method': 'POST', ':path': path })),
    );
    const events = await request('GET /events HTTP/1.1\nhost: a\n\n', 'client');
    await events.sees('data: 1');
    await one?.echoes('a');
    await two?.echoes('a');
    await policy('one', { rules: ofPath('/one') });
    await until(() => one?.cutAt !== undefined, 1_000);
    await two?.echoes('b');
    await policy('events', { rules: ofPath('/events') });
    await until(() => events.cutAt !== undefined, 1_000);
    await two?.echoes('c');
    session.destroy();
  });

  test('one that is over in a moment gets its answer', async () => {
    const asked = world.ask({ path: '/waits' });
    await until(() => world.waypoint.context.live.size === 1);
    await policy('waits', { rules: ofPath('/waits') });
    expect((await asked).status).toBe(200);
    expect((await world.ask({ path: '/waits' })).status).toBe(403);
  });

  test('one that waits for its answer is refused as any other', async () => {
    const asked = world.ask({ path: '/silent' });
    await until(() => world.waypoint.context.live.size === 1);
    await policy('silent', { rules: ofPath('/silent') });
    expect(await asked).toMatchObject({ status: 403, body: 'RBAC: access denied' });
    const details = 'rbac_access_denied_matched_policy[test/silent]';
    await until(() => world.access.some((line) => line.includes(details)));
  });

  test('one that is delayed is judged again before it goes on', async () => {
    const fault = { delay: { ms: 300, percentage: 100 } };
    const action = forward(to('v1'));
    await world.tell({
      routes: [{ service: shopKey, http: [route({ matches: [match()], action, fault })] }],
    });
    const before = http.requests.length;
    const asked = world.ask({ path: '/delayed' });
    await new Promise((resolve) => setTimeout(resolve, 100));
    await policy('delayed', { rules: ofPath('/delayed') });
    expect((await asked).status).toBe(403);
    expect(http.requests.length).toBe(before);
  });
});

test('what does not hold for it, is loosened, or in dry run, cuts nothing', async () => {
  const one = await kinds.TCP('client');
  await one.echoes('one');
  await policy('other', { rules: from('other') });
  await policy('rehearsed', { rules: from('client'), dryRun: true });
  await policy('watching', { rules: from('client'), action: 'AUDIT' });
  const elsewhere = { kind: 'service', service: 'test/elsewhere.test.svc.cluster.local' };
  await policy('elsewhere', {
    rules: from('client'),
    scope: { kind: 'targeted', targets: [elsewhere] },
  });
  await new Promise((resolve) => setTimeout(resolve, 700));
  await one.echoes('two');
  expect(one.cutAt).toBeUndefined();
});

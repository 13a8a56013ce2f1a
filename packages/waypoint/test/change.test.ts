import { Agent } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from '@jest/globals';
import type { Upsert } from '@ambit/api';
import type { TestCa } from '@ambit/testkit';
import { aMesh, makeTestCa } from '@ambit/testkit';
import { askGrpc, get, startGrpc, wholeStream } from './clients.ts';
import { exact, forward, match, route, subsets, to } from './nouns.ts';
import type { Backend, WaypointWorld, WorldOptions } from './world.ts';
import {
  ask,
  endpointOf,
  openSession,
  shopKey,
  shopService,
  startBackend,
  startWorld,
} from './world.ts';

/** What changes while requests are under way loses none of them and resets no stream. */
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface World {
  readonly world: WaypointWorld;
  readonly v1: Backend;
  readonly v2: Backend;
  /** A port of TCP whose connections are tunnels to a port of the shop. */
  readonly port: (number: number) => Promise<number>;
}

async function start(options: WorldOptions = {}): Promise<World> {
  const answer = (name: string) =>
    startBackend(name, (request, response) => {
      request.resume();
      request.on('end', () => setTimeout(() => response.end('fine'), 2));
    });
  const [v1, v2] = [await answer('v1'), await answer('v2')];
  const grpc = await startGrpc('127.0.2.2');
  closing.push(
    () => v1.close(),
    () => v2.close(),
    () => grpc.close(),
  );
  const world = await startWorld(
    {
      services: [
        shopService({
          ports: [
            { name: 'http', port: 80, appProtocol: '' },
            { name: 'grpc', port: 81, appProtocol: '' },
          ],
        }),
      ],
      workloads: [
        endpointOf(v1, { version: 'v1' }),
        endpointOf(v2, { version: 'v2' }),
        endpointOf(
          { name: 'grpc', ip: '127.0.2.2', port: grpc.port } as Backend,
          {},
          {
            services: [
              {
                service: shopKey,
                ready: true,
                ports: [{ servicePort: 81, targetPort: grpc.port }],
              },
            ],
          },
        ),
      ],
      clusters: [subsets],
    },
    options,
  );
  closing.push(() => world.close());
  return {
    world,
    v1,
    v2,
    port: async (number) => {
      const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket: Socket) => {
        socket.on('error', () => undefined);
        void world.tunnel(number).then((tunnel) => {
          tunnel.on('error', () => socket.resetAndDestroy());
          socket.pipe(tunnel).pipe(socket);
        });
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      closing.push(() => void server.close());
      return (server.address() as AddressInfo).port;
    },
  };
}

/** Calls and streams of gRPC on one connection that lives from the beginning to the end. */
function grpcClient(port: number): (path: string) => Promise<string> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on('error', () => undefined);
  closing.push(() => {
    session.destroy();
  });
  return (path) => askGrpc(session, path);
}

/** Every kind of client at once, while `change` goes on; what came of it. */
async function underLoad(
  { world, port }: World,
  change: () => Promise<void>,
  fresh: () => Promise<string> = async () => {
    const { status, body } = await world.ask();
    return `${status} ${body}`;
  },
): Promise<{ readonly outcomes: Set<string>; readonly count: number }> {
  const [http, grpcPort] = [await port(80), await port(81)];
  const kept = new Agent({ keepAlive: true });
  closing.push(() => kept.destroy());
  const grpc = grpcClient(grpcPort);
  const outcomes = new Set<string>();
  let [over, count] = [false, 0];
  const note = async (call: Promise<string>, wanted: string): Promise<void> => {
    const outcome = await call.catch((error: unknown) => `failed: ${String(error)}`);
    if (outcome !== wanted) outcomes.add(outcome);
    count += 1;
  };
  const line = async (call: () => Promise<string>, wanted: string): Promise<void> => {
    while (!over) {
      await note(call(), wanted);
      await sleep(5);
    }
  };
  const work = [
    ...Array.from({ length: 4 }, () => line(() => get(kept, http), '200 fine')),
    line(fresh, '200 fine'),
    line(() => grpc('/call'), '0 fine'),
    line(() => grpc('/stream'), wholeStream),
    line(() => grpc('/stream'), wholeStream),
  ];
  try {
    await change();
  } finally {
    over = true;
    await Promise.all(work);
  }
  return { outcomes, count };
}

const toNobody = {
  kind: 'request',
  attribute: { kind: 'path' },
  values: [exact('/nobody')],
  notValues: [],
};

test('routes, policies, clusters and endpoints change without a lost request or a reset stream', async () => {
  const started = await start();
  const { world, v1, v2 } = started;
  const { outcomes, count } = await underLoad(started, async () => {
    for (let round = 0; round < 50; round += 1) {
      const [one, other] = round % 2 === 0 ? (['v1', 'v2'] as const) : (['v2', 'v1'] as const);
      await world.tell({
        routes: [
          {
            service: shopKey,
            http: [
              route({ matches: [match({ path: exact(`/${round}`) })], action: forward(to('v1')) }),
              route({
                matches: [match({ port: 80 })],
                action: forward(to(one, { weight: 20 }), to(other, { weight: 80 })),
              }),
              route({
                action: forward(
                  to('v1', { target: { kind: 'service', service: shopKey, port: 81 } }),
                ),
              }),
            ],
          },
        ],
        clusters: [
          {
            ...subsets,
            policy: {
              ...subsets.policy,
              balancing: { kind: round % 3 === 0 ? 'random' : 'round-robin' },
            },
          },
        ],
        policies: [
          {
            name: `changing-${round % 3}`,
            scope: { kind: 'targeted', targets: [{ kind: 'service', service: shopKey }] },
            action: round % 4 === 0 ? 'DENY' : 'ALLOW',
            rules: [{ from: [], to: round % 4 === 0 ? [[toNobody]] : [], when: [] }],
          },
        ],
        // An endpoint goes and comes back; the other is there all the time.
        workloads: [endpointOf(round % 10 < 5 ? v2 : v1, { version: 'v2' }, { name: 'v2' })],
      });
      await sleep(80);
    }
  });
  expect([...outcomes]).toEqual([]);
  expect(count).toBeGreaterThan(60);
  expect(v2.requests.length).toBeGreaterThan(20);
}, 60_000);

test('certificates are renewed and the root is changed in steps without a lost request or a reset stream', async () => {
  const next = await makeTestCa(undefined, 'O=next');
  let signer: TestCa | undefined;
  let roots: readonly string[] = [];
  let signed = 0;
  const started = await start({
    // Renewed every second.
    async sign({ identity, csr }, ca) {
      signed += 1;
      const chain = await (signer ?? ca).sign(identity, csr, {
        notBefore: new Date(Date.now() - 2_000),
        notAfter: new Date(Date.now() + 7_000),
      });
      return { chain, roots: roots.length === 0 ? [ca.rootPem] : [...roots] };
    },
  });
  const { world } = started;
  const { ca, waypoint } = world;
  let [client, trusted] = [ca, [ca.rootPem]];
  const trust = async (...pems: string[]): Promise<void> => {
    roots = pems;
    trusted = pems;
    await world.tell({
      more: [
        {
          type: 'mesh',
          name: 'default',
          version: `roots-${pems.length}-${signed}` as Upsert['version'],
          resource: aMesh({ roots: pems }),
        },
      ],
    });
    await sleep(2_500);
  };
  let sessions = 0;
  const fresh = async (): Promise<string> => {
    sessions += 1;
    const session = await openSession(client, waypoint.port, 'fresh', trusted);
    try {
      const { status, body } = await ask(session, {});
      return `${status} ${body}`;
    } finally {
      session.session.destroy();
    }
  };
  const { outcomes, count } = await underLoad(
    started,
    async () => {
      await sleep(1_500);
      await trust(ca.rootPem, next.rootPem);
      signer = next;
      client = next;
      await sleep(2_500);
      await trust(next.rootPem);
    },
    fresh,
  );
  expect([...outcomes]).toEqual([]);
  expect(count).toBeGreaterThan(60);
  expect(sessions).toBeGreaterThan(5);
  expect(signed).toBeGreaterThan(5);
}, 60_000);

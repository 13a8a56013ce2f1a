import { connect, createServer } from 'node:tls';
import type { Server, TLSSocket } from 'node:tls';
import type { AddressInfo } from 'node:net';
import { Duplex } from 'node:stream';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { defaultTraffic, noChanges } from '@ambit/api';
import { makeTestCa } from '@ambit/testkit';
import type { WaypointWorld } from './world.ts';
import { shopKey, shopService, startWorld } from './world.ts';

/** Servers of TLS that say who they are, behind a service whose port is for TLS. */
let world: WaypointWorld;
const servers: Server[] = [];

beforeAll(async () => {
  const ca = await makeTestCa();
  const { chain, privateKey } = await ca.issue('spiffe://example/server');
  const workloads = await Promise.all(
    ['v1', 'v2'].map(async (name, index) => {
      const server = createServer(
        { cert: chain.join(''), key: privateKey },
        (socket: TLSSocket) => {
          socket.on('error', () => undefined);
          socket.end(name);
        },
      );
      servers.push(server);
      const ip = `127.0.3.${index + 1}`;
      await new Promise<void>((resolve) => server.listen(0, ip, resolve));
      const { port } = server.address() as AddressInfo;
      const ports = [443, 9000].map((servicePort) => ({ servicePort, targetPort: port }));
      return {
        name,
        addresses: [ip],
        tunnel: 'none',
        labels: [['version', name]],
        services: [{ service: shopKey, ready: true, ports }],
      };
    }),
  );
  world = await startWorld({
    services: [
      shopService({
        ports: [
          { name: 'tls', port: 443, appProtocol: '' },
          { name: 'any', port: 9000, appProtocol: '' },
        ],
      }),
    ],
    workloads,
    clusters: [
      {
        service: shopKey,
        policy: defaultTraffic,
        subsets: ['v1', 'v2'].map((name) => ({
          name,
          labels: [['version', name]],
          policy: defaultTraffic,
        })),
      },
    ],
  });
}, 30_000);

afterAll(async () => {
  await world.close();
  for (const server of servers) await new Promise<void>((resolve) => server.close(() => resolve()));
});

/** Who answers a client of TLS that asks for this name; nobody when the connection is refused. */
async function whom(name: string | undefined, port = 443, pieceBytes?: number): Promise<string> {
  const stream = await world.tunnel(port);
  const socket = connect({
    socket: pieceBytes === undefined ? stream : inPieces(stream, pieceBytes),
    rejectUnauthorized: false,
    ...(name === undefined ? {} : { servername: name }),
  });
  return new Promise((resolve) => {
    let text = '';
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
    const over = (): void => {
      resolve(text === '' ? 'nobody' : text);
      socket.destroy();
      stream.destroy();
    };
    socket.on('end', over);
    socket.on('error', over);
    socket.on('close', over);
  });
}

/** The first bytes leave in pieces, as over a slow line. */
function inPieces(stream: Duplex, bytes: number): Duplex {
  const slow = new Duplex({
    read: () => undefined,
    write(chunk: Buffer, _encoding, done) {
      void (async () => {
        for (let at = 0; at < chunk.length; at += bytes) {
          stream.write(chunk.subarray(at, at + bytes));
          await new Promise((resolve) => setImmediate(resolve));
        }
        done();
      })();
    },
    final(done) {
      stream.end();
      done();
    },
  });
  stream.on('data', (chunk: Buffer) => slow.push(chunk));
  stream.on('end', () => slow.push(null));
  stream.on('error', (error: Error) => slow.destroy(error));
  stream.on('close', () => slow.destroy());
  return slow;
}

const to = (subset: string, weight = 1, port = 443): object => ({
  weight,
  target: { kind: 'service', service: shopKey, port, subset },
  request: noChanges,
  response: noChanges,
});
const any = { sourceLabels: [], destinationSubnets: [] };

async function routes(table: { tls?: object[]; tcp?: object[] }): Promise<void> {
  const named = (one: object): object => ({ name: 'r', ...one });
  await world.tell({
    routes: [
      {
        service: shopKey,
        tls: (table.tls ?? []).map(named),
        tcp: (table.tcp ?? []).map(named),
      },
    ],
  });
}

beforeEach(() => routes({}));

async function share(count: number, ask: () => Promise<string>): Promise<number> {
  let v2 = 0;
  for (let index = 0; index < count; index += 1) if ((await ask()) === 'v2') v2 += 1;
  return v2 / count;
}

describe('TLS by its server name', () => {
  const byName = {
    tls: [
      { matches: [{ ...any, port: 443, sniHosts: ['one.example'] }], targets: [to('v1')] },
      { matches: [{ ...any, port: 443, sniHosts: ['*.two.example'] }], targets: [to('v2')] },
    ],
  };

  test.each([
    ['a name', 'one.example', 'v1'],
    ['a name below a star', 'a.two.example', 'v2'],
    ['another name', 'three.example', 'nobody'],
    ['no name', undefined, 'nobody'],
  ])('%s', async (_name, name, expected) => {
    await routes(byName);
    expect(await whom(name)).toBe(expected);
  });

  test.each([1, 7, 700])('a hello in pieces of %i bytes passes no route by', async (bytes) => {
    await routes(byName);
    expect(await whom('a.two.example', 443, bytes)).toBe('v2');
    expect(await whom('three.example', 443, bytes)).toBe('nobody');
  });

  test('on a port that no route speaks of, the service itself answers', async () => {
    await routes(byName);
    expect(await whom('three.example', 9000)).toMatch(/^v[12]$/);
  });

  test('by weight', async () => {
    await routes({
      tls: [
        { matches: [{ ...any, sniHosts: ['one.example'] }], targets: [to('v1', 70), to('v2', 30)] },
      ],
    });
    const v2 = await share(150, () => whom('one.example'));
    expect(v2).toBeGreaterThan(0.1);
    expect(v2).toBeLessThan(0.55);
  });
});

describe('connections', () => {
  test('by weight', async () => {
    await routes({ tcp: [{ matches: [], targets: [to('v1', 70), to('v2', 30)] }] });
    const v2 = await share(150, () => whom('x.example'));
    expect(v2).toBeGreaterThan(0.1);
    expect(v2).toBeLessThan(0.55);
  });

  test.each([
    ['by port', { port: 9000 }],
    [
      'by the address that was asked for',
      { destinationSubnets: [{ ip: '10.96.0.0', prefixLength: 16 }], port: 9000 },
    ],
  ])('%s', async (_name, match) => {
    await routes({ tcp: [{ matches: [{ ...any, ...match }], targets: [to('v2', 1, 9000)] }] });
    expect(await share(8, () => whom('x', 9000))).toBe(1);
    expect(await share(24, () => whom('x', 443))).toBeLessThan(1);
  });

  test('nobody where the weights sum to 0, or a subset is not there', async () => {
    await routes({ tcp: [{ matches: [], targets: [to('v1', 0), to('v2', 0)] }] });
    expect(await whom('x')).toBe('nobody');
    await routes({ tcp: [{ matches: [], targets: [to('v3')] }] });
    expect(await whom('x')).toBe('nobody');
  });
});

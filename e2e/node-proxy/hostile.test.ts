import type { Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { connectFd, connectSocket } from '@ambit/core';
import { eventually, samples } from '../support/node.ts';
import type { App } from '../support/pods.ts';
import { ask, call, serve, socketAddress } from '../support/pods.ts';
import type { World } from '../support/world.ts';
import { hboneFrom, makeWorld, uri } from '../support/world.ts';

/** What the references are weak in, through two whole proxies: cuts, stalls, silence and false identities. */
let world: World;
const apps: App[] = [];

beforeAll(async () => {
  world = await makeWorld();
}, 60_000);

afterEach(() => {
  for (const app of apps.splice(0)) app.close();
});

afterAll(() => world.close());

describe('abort is not an end', () => {
  test('the server resets in the middle: the client sees a reset, never an end', async () => {
    const { client, server } = world;
    apps.push(
      serve(server, 8080, (socket) => {
        socket.write('half of it', () => setTimeout(() => socket.resetAndDestroy(), 50));
      }),
    );
    const cut = call(client, server.ip4, 8080);
    expect(await cut.ended).toBe('ECONNRESET');
    expect(cut.text()).toBe('half of it');
  });

  test('the client resets in the middle: the server sees a reset, never an end', async () => {
    const { client, server } = world;
    let how = '';
    apps.push(
      serve(server, 8080, (socket) => {
        socket.on('data', () => undefined);
        socket.on('end', () => (how = 'end'));
        socket.on('error', (error: NodeJS.ErrnoException) => (how = error.code ?? ''));
      }),
    );
    const { socket } = call(client, server.ip4, 8080);
    socket.write('half of it', () => setTimeout(() => socket.resetAndDestroy(), 50));
    expect(
      await eventually(
        () => how,
        (it) => it !== '',
      ),
    ).toBe('ECONNRESET');
  });

  test('a half-close is an end in one direction only, and the answer still comes', async () => {
    const { client, server } = world;
    apps.push(
      serve(server, 8080, (socket) => {
        let text = '';
        socket.on('data', (chunk) => (text += chunk.toString()));
        socket.on('end', () => setTimeout(() => socket.end(`${text.length} bytes`), 100));
      }),
    );
    const half = call(client, server.ip4, 8080);
    half.socket.end('x'.repeat(100_000));
    expect(await half.ended).toBe('end');
    expect(half.text()).toBe('100000 bytes');
  });

  test('the proxy of the other node loses its session: both applications see a reset', async () => {
    const { client, server, node1 } = world;
    let how = '';
    apps.push(
      serve(server, 8080, (socket) => {
        socket.write('half of it');
        socket.on('end', () => (how = 'end'));
        socket.on('error', (error: NodeJS.ErrnoException) => (how = error.code ?? ''));
      }),
    );
    const cut = call(client, server.ip4, 8080);
    await cut.received(10);
    node1.ztunnel.context.pool.destroy(() => true);
    expect(await cut.ended).toBe('ECONNRESET');
    expect(
      await eventually(
        () => how,
        (it) => it !== '',
      ),
    ).toBe('ECONNRESET');
  });
});

test('a stalled stream starves nobody: others on its session go on, and memory stays bounded', async () => {
  const { client, server } = world;
  const chunk = Buffer.alloc(256 * 1024, 'x');
  const flood = (socket: Socket): void => {
    const more = (): void => {
      while (!socket.destroyed && socket.write(chunk));
    };
    socket.on('drain', more);
    more();
  };
  apps.push(serve(server, 8080), serve(server, 9090, flood));
  const before = process.memoryUsage().rss;
  const stalled = Array.from({ length: 20 }, () => {
    const each = call(client, server.ip4, 9090);
    each.socket.pause();
    return each;
  });
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const began = performance.now();
  for (let index = 0; index < 50; index += 1) {
    expect(await ask(client, server.ip4, 8080, 'x'.repeat(10_000))).toBe('server');
  }
  expect(performance.now() - began).toBeLessThan(5_000);
  // Twenty windows of 4 MiB on each side of the tunnel, and what the kernel's buffers in this process' namespaces do not count.
  expect(process.memoryUsage().rss - before).toBeLessThan(400 * 1024 * 1024);
  for (const { socket } of stalled) socket.destroy();
});

describe('deadlines before identity', () => {
  test('a thousand silent and half-spoken connections are cut at 5 s and hurt nobody', async () => {
    const { client, server, plain, node2 } = world;
    apps.push(serve(server, 8080));
    const clientHello = Buffer.from('1603010200010001fc0303', 'hex');
    const began = performance.now();
    const cutAfter = Array.from({ length: 1_000 }, (_, index) => {
      const fd = connectSocket({ netnsFd: plain.netns.fd, family: 'IPv4' });
      const socket = connectFd(fd, socketAddress(server.ip4, 15008));
      socket.on('error', () => undefined);
      socket.on('end', () => socket.destroy());
      if (index % 2 === 1) socket.write(clientHello);
      socket.resume();
      return new Promise<number>((resolve) => {
        socket.on('close', () => resolve(performance.now() - began));
      });
    });
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const asked = performance.now();
    for (let index = 0; index < 20; index += 1) {
      expect(await ask(client, server.ip4, 8080)).toBe('server');
    }
    expect(performance.now() - asked).toBeLessThan(2_000);
    const cuts = await Promise.all(cutAfter);
    expect(Math.min(...cuts)).toBeGreaterThan(4_000);
    expect(Math.max(...cuts)).toBeLessThan(9_000);
    expect(node2.ztunnel.context.connections.size).toBe(0);
  });
});

describe('one identity, strictly', () => {
  test.each([
    ['no URI', []],
    ['two URIs', [uri('client'), uri('server')]],
    ['a path of another form', ['spiffe://cluster.local/workload/client']],
    ['a dot segment', ['spiffe://cluster.local/ns/test/../sa/client']],
    ['an escape', ['spiffe://cluster.local/ns/te%73t/sa/client']],
    ['an empty part', ['spiffe://cluster.local/ns//sa/client']],
    ['a trailing slash', ['spiffe://cluster.local/ns/test/sa/client/']],
    ['a control byte', ['spiffe://cluster.local/ns/test/sa/cli\u0000ent']],
    ['an over-long name', [`spiffe://cluster.local/ns/test/sa/${'a'.repeat(300)}`]],
    ['another scheme', ['https://cluster.local/ns/test/sa/client']],
  ])('%s is refused in the handshake', async (_what, uris) => {
    await refusedWith({ uris }, /tls\/(not-one-identity|certificate-malformed)/);
  });

  test.each([
    ['an authority as a leaf', { isCa: true }, /tls\/(wrong-key-usage|untrusted-chain)/],
    [
      'no usage for clients',
      { usages: ['1.3.6.1.5.5.7.3.1'] },
      /tls\/(wrong-key-usage|untrusted-chain)/,
    ],
    ['one that has expired', { notAfter: new Date(Date.now() - 1_000) }, /CERT_HAS_EXPIRED/],
    [
      'one that is not valid yet',
      { notBefore: new Date(Date.now() + 600_000) },
      /CERT_NOT_YET_VALID/,
    ],
  ])('%s is refused in the handshake', async (_what, options, reason) => {
    await refusedWith(options, reason);
  });

  async function refusedWith(
    options: Parameters<World['ca']['certificate']>[1],
    reason: RegExp,
  ): Promise<void> {
    const { ca, plain, server, node2 } = world;
    const app = serve(server, 8080);
    apps.push(app);
    const good = await ca.certificate(uri('client'));
    const bad = await ca.issue(uri('client'), options);
    const before = node2.log.length;
    const opened = hboneFrom(
      plain,
      { ip: server.ip4, name: 'server' },
      { ...good, chain: bad.chain, privateKey: bad.privateKey },
    ).then(async (session) => {
      const authority = { kind: 'address', ...socketAddress(server.ip4, 8080) } as const;
      return session.openTunnel({ authority, headers: [], timeoutMs: 3_000 });
    });
    await expect(opened).rejects.toThrow();
    const lines = await eventually(
      () => node2.log.slice(before).filter((line) => line.includes('peer turned away')),
      ({ length }) => length === 1,
    );
    expect(lines[0]).toMatch(reason);
    const counted = samples(await node2.metrics(), 'ambit_rejected_total', {});
    expect(counted.reduce((sum, each) => sum + each, 0)).toBeGreaterThan(0);
    expect(app.seen).toEqual([]);
  }
});

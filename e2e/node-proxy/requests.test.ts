import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { Hostname, IpAddress, Port } from '@ambit/api';
import type { Authority, ClientSession, Tunnel } from '@ambit/core';
import { TunnelRefused } from '@ambit/core';
import { aService, makeTestCa } from '@ambit/testkit';
import { tell, workloadOf } from '../support/mesh.ts';
import { eventually, samples } from '../support/node.ts';
import type { App, Pod } from '../support/pods.ts';
import { call, ip, serve, sh } from '../support/pods.ts';
import type { World } from '../support/world.ts';
import { hboneFrom, makeWorld, uri } from '../support/world.ts';

/** Rows 20 to 24 of the node proxy's table: what a peer may ask for, and what nobody may. */
let world: World;
const apps: App[] = [];
const sessions: ClientSession[] = [];

beforeAll(async () => {
  world = await makeWorld();
  apps.push(serve(world.server, 8080), serve(world.server, 9090));
  const { client, server, plain, controller } = world;
  const ports = [
    { servicePort: 80, targetPort: 8080 },
    { servicePort: 81, targetPort: 9090 },
    { servicePort: 82, targetPort: 15000 },
  ];
  await tell(controller, {
    services: [
      aService({
        name: 'shop',
        vips: ['10.30.200.1'],
        ports: [80, 81, 82].map((port) => ({ name: `p${port}`, port, appProtocol: '' })),
      }),
      aService({ name: 'other', vips: ['10.30.200.2'] }),
    ],
    workloads: [
      workloadOf(server, 'n2', {
        services: [{ service: 'test/shop.test.svc.cluster.local', ready: true, ports }],
      }),
      workloadOf(client, 'n1'),
      workloadOf(plain, 'n2', { tunnel: 'none' }),
    ],
  });
}, 60_000);

afterEach(() => {
  for (const session of sessions.splice(0)) session.session.destroy();
  for (const { seen } of apps) seen.splice(0);
  world.node2.access.splice(0);
});

afterAll(async () => {
  for (const app of apps) app.close();
  await world.close();
});

async function session(name = 'stranger'): Promise<ClientSession> {
  const { ca, plain, server } = world;
  const opened = await hboneFrom(
    plain,
    { ip: server.ip4, name: 'server' },
    await ca.certificate(uri(name)),
  );
  sessions.push(opened);
  return opened;
}

function address(host: IpAddress, port: number): Authority {
  return { kind: 'address', ip: host, port: port as Port };
}

function hostname(name: string, port: number): Authority {
  return { kind: 'hostname', hostname: name as Hostname, port: port as Port };
}

async function open(from: ClientSession, authority: Authority): Promise<Tunnel | number> {
  try {
    return await from.openTunnel({ authority, headers: [], timeoutMs: 3_000 });
  } catch (error) {
    if (error instanceof TunnelRefused) return error.status;
    throw error;
  }
}

async function nameBehind(authority: Authority): Promise<string> {
  const tunnel = await open(await session(), authority);
  if (typeof tunnel === 'number') return `status ${tunnel}`;
  return new Promise((resolve) => {
    tunnel.stream.attach({
      data: (chunk) => resolve(chunk.toString()),
      end: () => undefined,
      drain: () => undefined,
      close: (error) => resolve(`closed: ${error?.message ?? 'in order'}`),
    });
  });
}

describe('what a peer may ask for', () => {
  test('hbone_ip_mismatch', async () => {
    const { client, server, node2 } = world;
    const peer = await session();
    expect(await open(peer, address(client.ip4, 8080))).toBe(400);
    const [line] = await eventually(
      () => node2.access,
      ({ length }) => length === 1,
    );
    expect(line).toMatchObject({
      error: `ip mismatch: ${server.ip4} is not ${client.ip4}`,
      'src.identity': uri('stranger'),
    });
    // The pod's address of the other family is not the one that was called either.
    expect(await open(peer, address(server.ip6, 8080))).toBe(400);
    // The refusals ended streams, not the session.
    expect(await open(peer, address(server.ip4, 8080))).toMatchObject({
      stream: { closed: false },
    });
  });

  test('test_svc_hostname_port', async () => {
    expect(await nameBehind(hostname('shop.test.svc.cluster.local', 80))).toBe('server\n');
    expect(apps[0]?.seen).toHaveLength(1);
  });

  test('test_svc_hostname_named_port', async () => {
    expect(await nameBehind(hostname('shop.test.svc.cluster.local', 81))).toBe('server\n');
    expect(apps[1]?.seen).toHaveLength(1);
  });

  test.each([
    ['a port that the service has not', hostname('shop.test.svc.cluster.local', 83)],
    ['a service of which it is no endpoint', hostname('other.test.svc.cluster.local', 80)],
    ['a name that nobody has', hostname('metadata.internal', 80)],
    ['no name', hostname('', 80)],
    ['a port that is none', hostname('shop.test.svc.cluster.local', 65536)],
    ['user info', hostname('shop.test.svc.cluster.local@10.0.0.1', 80)],
    ['a path', hostname('/shop', 80)],
    ['a mapped address', hostname('[::ffff:10.30.1.2]', 8080)],
    ['a decimal address', hostname('169738498', 8080)],
  ])('no leak by status: %s is 400 and never dials', async (_what, authority) => {
    expect(await open(await session(), authority)).toBe(400);
    expect(apps.flatMap(({ seen }) => seen)).toEqual([]);
  });

  test('an application that does not listen is 503', async () => {
    const { server, node2 } = world;
    expect(await open(await session(), address(server.ip4, 7))).toBe(503);
    const [line] = await eventually(
      () => node2.access,
      ({ length }) => length === 1,
    );
    expect(String(line?.['error'])).toContain('ECONNREFUSED');
  });

  test.each([15000, 15001, 15006, 15008, 15020, 15021, 15053])(
    'its own ports stay its own: CONNECT to %i is refused, whoever asks',
    async (port) => {
      for (const name of ['stranger', 'client', 'server', 'ztunnel']) {
        expect(await open(await session(name), address(world.server.ip4, port))).toBe(400);
      }
      expect(apps.flatMap(({ seen }) => seen)).toEqual([]);
    },
  );

  test('a service port that leads to a port of the mesh is refused', async () => {
    expect(await open(await session(), hostname('shop.test.svc.cluster.local', 82))).toBe(400);
  });
});

describe('who may speak at all', () => {
  test('trust_domain_mismatch_rejected', async () => {
    const { ca, plain, server, node2 } = world;
    const foreign = await ca.certificate(uri('client', 'elsewhere.example'));
    const opened = hboneFrom(plain, { ip: server.ip4, name: 'server' }, foreign).then(
      async (it) => {
        sessions.push(it);
        return open(it, address(server.ip4, 8080));
      },
    );
    await expect(opened).rejects.toHaveProperty(
      'code',
      expect.stringMatching(/^(?:hbone|http2)\//),
    );
    const text = await eventually(
      () => node2.metrics(),
      (it) => samples(it, 'ambit_rejected_total', { reason: 'tls/foreign-trust-domain' })[0] === 1,
    );
    expect(text).toContain('tls/foreign-trust-domain');
    expect(node2.log.some((line) => line.includes('elsewhere.example'))).toBe(true);
  });

  test('a root of nobody is refused in the handshake, on both sides', async () => {
    const { ca, plain, server } = world;
    const stranger = await makeTestCa();
    const trustsUs = await stranger.certificate(uri('client'), { roots: [ca.rootPem] });
    const opened = hboneFrom(plain, { ip: server.ip4, name: 'server' }, trustsUs).then(
      async (it) => {
        sessions.push(it);
        return open(it, address(server.ip4, 8080));
      },
    );
    await expect(opened).rejects.toThrow();
    const trustsThem = await ca.certificate(uri('client'), { roots: [stranger.rootPem] });
    await expect(
      hboneFrom(plain, { ip: server.ip4, name: 'server' }, trustsThem),
    ).rejects.toMatchObject({ code: 'hbone/tls-failed' });
  });

  test('one identity, strictly: a server that is not the one expected gets nothing', async () => {
    const { ca, plain, server } = world;
    const mine = await ca.certificate(uri('client'));
    await expect(hboneFrom(plain, { ip: server.ip4, name: 'another' }, mine)).rejects.toMatchObject(
      { code: 'tls/unexpected-identity' },
    );
  });
});

describe('malicious_calls_inpod', () => {
  const ports = [15001, 15006, 15008, 15080, 15000, 15020, 15021];

  const [reset, refused] = ['ECONNRESET', 'ECONNREFUSED'];
  /**
   * By port, in the order above. A listener of the mesh that is called by name resets or ends the call; in a pod that
   * is not captured nobody listens; 15008 of a captured pod takes the call, hears no TLS and ends it.
   */
  const expected = {
    captured: {
      server: [reset, reset, reset, reset, reset, reset, reset],
      self: [reset, reset, 'end', refused, refused, refused, refused],
      localhost: [reset, reset, 'end', refused, refused, refused, refused],
    },
    uncaptured: {
      server: [reset, reset, 'end', reset, reset, reset, reset],
      self: [refused, refused, refused, refused, refused, refused, refused],
      localhost: [refused, refused, refused, refused, refused, refused, refused],
    },
  };

  async function probe(from: Pod, host: IpAddress, port: number): Promise<string> {
    const { socket, ended, text } = call(from, host, port);
    socket.on('connect', () =>
      socket.write('GET /config_dump HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    );
    const timer = setTimeout(
      () => socket.destroy(Object.assign(new Error(), { code: 'silent' })),
      1_500,
    );
    const how = await ended;
    clearTimeout(timer);
    expect(text()).toBe('');
    return how;
  }

  test.each(['captured', 'uncaptured'] as const)('%s client', async (kind) => {
    const { client, plain, server } = world;
    const from = kind === 'captured' ? client : plain;
    const hosts = { server: server.ip4, self: from.ip4, localhost: ip('127.0.0.1') };
    const outcome: Record<string, string[]> = {};
    for (const [name, host] of Object.entries(hosts)) {
      outcome[name] = await Promise.all(ports.map((port) => probe(from, host, port)));
    }
    expect(outcome).toEqual(expected[kind]);
  });

  test('nothing loops: the proxies are quiet afterwards', async () => {
    await eventually(
      () =>
        [
          ...world.node1.ztunnel.context.connections.list(),
          ...world.node2.ztunnel.context.connections.list(),
        ].length,
      (open) => open === 0,
    );
    // The session that carried the refused calls may stay pooled; nothing else may.
    for (const { name } of [world.client, world.server]) {
      const list = (): string =>
        sh(
          `ip netns exec ${name} ss -tnH state established '( sport != :15008 and dport != :15008 )'`,
        );
      await eventually(list, (open) => open === '');
    }
  });
});

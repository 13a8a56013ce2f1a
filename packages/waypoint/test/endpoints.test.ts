import { writeFileSync, mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo, Server as TcpServer } from 'node:net';
import { Socket, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket, TlsOptions } from 'node:tls';
import { createServer as createTlsServer } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Upsert } from '@ambit/api';
import { defaultTraffic, parseTrustDomain } from '@ambit/api';
import { createHboneServer } from '@ambit/core';
import type { TestCa } from '@ambit/testkit';
import { makeTestCa } from '@ambit/testkit';
import type { WaypointWorld } from './world.ts';
import { shopKey, shopService, startWorld } from './world.ts';

interface Heard {
  readonly serverName: string | undefined;
  readonly offered: readonly string[];
  readonly peer: string | undefined;
  readonly version: string;
}

interface Endpoint {
  readonly ip: string;
  readonly port: number;
  readonly heard: Heard[];
  connections: number;
}

let world: WaypointWorld;
let partners: TestCa;
let folder: string;
let address = 1;

const answered = 'HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecure';

function own(): string {
  address += 1;
  return `127.0.3.${address}`;
}

/** Listens on an address of loopback of its own until the test is over. */
async function listening(server: TcpServer): Promise<{ ip: string; port: number }> {
  const ip = own();
  await listenOn(server, ip, 0);
  return { ip, port: (server.address() as AddressInfo).port };
}

async function listenOn(server: TcpServer, ip: string, port: number): Promise<void> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  closers.push(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  await new Promise<void>((resolve) => server.listen(port, ip, resolve));
}

/** An endpoint of TLS that answers any request of HTTP/1.1. */
async function tlsEndpoint(
  certificate: { chain: readonly string[]; privateKey: string },
  options: TlsOptions = {},
): Promise<Endpoint> {
  const heard: Heard[] = [];
  let offered: readonly string[] = [];
  const server = createTlsServer(
    {
      cert: certificate.chain.join('\n'),
      key: certificate.privateKey,
      ALPNCallback: ({ protocols }) => {
        offered = protocols;
        return protocols.includes('http/1.1') ? 'http/1.1' : protocols[0];
      },
      ...options,
    },
    (socket: TLSSocket) => {
      heard.push({
        serverName: typeof socket.servername === 'string' ? socket.servername : undefined,
        offered,
        peer: socket.getPeerX509Certificate()?.subjectAltName,
        version: socket.getProtocol() ?? '',
      });
      socket.on('error', () => undefined);
      socket.on('data', () => socket.write(answered));
    },
  );
  const endpoint = { heard, connections: 0 };
  server.on('connection', () => (endpoint.connections += 1));
  server.on('tlsClientError', () => undefined);
  return Object.assign(endpoint, await listening(server));
}

function workloadAt({ ip, port }: { ip: string; port: number }, fields: object = {}) {
  return {
    name: 'endpoint',
    addresses: [ip],
    tunnel: 'none',
    services: [{ service: shopKey, ready: true, ports: [{ servicePort: 80, targetPort: port }] }],
    ...fields,
  };
}

let versions = 0;

async function settings(
  endpoint: { ip: string; port: number },
  policy: object,
  more: readonly Upsert[] = [],
  fields: object = {},
): Promise<void> {
  await world.tell({
    workloads: [workloadAt(endpoint, fields)],
    clusters: [{ service: shopKey, policy: { ...defaultTraffic, ...policy }, subsets: [] }],
    more,
  });
}

function credential(parts: object, name = 'partner'): Upsert {
  versions += 1;
  return {
    type: 'credential',
    name: `test/${name}`,
    version: `c${versions}`,
    resource: { name, namespace: 'test', ...parts },
  } as unknown as Upsert;
}

function simple(fields: object = {}) {
  return {
    tls: {
      mode: 'simple',
      subjectAltNames: [],
      source: { kind: 'credential', name: 'test/partner' },
      insecureSkipVerify: false,
      ...fields,
    },
  };
}

/** Waits until the access log has such a line; lines are written in batches. */
async function logged(what: RegExp): Promise<void> {
  const deadline = Date.now() + 2000;
  while (!world.access.some((line) => what.test(line)) && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(world.access.filter((line) => what.test(line))).not.toEqual([]);
}

beforeAll(async () => {
  partners = await makeTestCa();
  folder = mkdtempSync(join(tmpdir(), 'ambit-tls-'));
  world = await startWorld({ services: [shopService()], workloads: [] });
}, 30_000);

const closers: (() => Promise<void>)[] = [];

beforeEach(() => {
  world.access.length = 0;
});

afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

afterAll(async () => {
  await world.close();
  rmSync(folder, { recursive: true });
});

async function partner(names: readonly string[]): ReturnType<TestCa['issue']> {
  return partners.issue('spiffe://partner.test/ns/a/sa/b', {
    names: names.map((value) => ({ type: 'dns', value })),
  });
}

describe('TLS to endpoints', () => {
  test('SIMPLE: asks for the host of the request and verifies it', async () => {
    const endpoint = await tlsEndpoint(await partner(['shop.test']));
    await settings(endpoint, simple(), [credential({ ca: partners.rootPem })]);
    expect(await world.ask()).toMatchObject({ status: 200, body: 'secure' });
    expect(endpoint.heard).toEqual([
      { serverName: 'shop.test', offered: ['h2', 'http/1.1'], peer: undefined, version: 'TLSv1.3' },
    ]);
  });

  test('SIMPLE: requests for two hosts do not share a connection, those for one do', async () => {
    const endpoint = await tlsEndpoint(await partner(['shop.test', 'other.test']));
    await settings(endpoint, simple(), [credential({ ca: partners.rootPem })]);
    for (const authority of ['shop.test', 'other.test:80', 'shop.test', 'other.test']) {
      expect((await world.ask({ authority })).status).toBe(200);
    }
    expect(endpoint.heard.map(({ serverName }) => serverName)).toEqual(['shop.test', 'other.test']);
  });

  test('a chain of other roots, a certificate of another name: 503 with the reason, and no request sent', async () => {
    const endpoint = await tlsEndpoint(await partner(['elsewhere.test']));
    await settings(endpoint, simple(), [credential({ ca: world.ca.rootPem })]);
    expect((await world.ask()).status).toBe(503);
    await logged(/503 UF.*TLS_error: certificate verify failed: [A-Z_]+/);
    await settings(endpoint, simple(), [credential({ ca: partners.rootPem })]);
    expect((await world.ask()).status).toBe(503);
    await logged(/503 UF.*it is for none of shop\.test/);
    await settings(endpoint, simple({ subjectAltNames: ['other', 'elsewhere.test'] }));
    expect((await world.ask()).status).toBe(200);
    await settings(endpoint, simple({ subjectAltNames: ['spiffe://partner.test/ns/a/sa/b'] }));
    expect((await world.ask()).status).toBe(200);
    await settings(endpoint, simple({ subjectAltNames: ['spiffe://partner.test/ns/a/sa'] }));
    expect((await world.ask()).status).toBe(503);
    await settings(endpoint, simple({ insecureSkipVerify: true, sni: 'any.test' }));
    expect((await world.ask()).status).toBe(200);
    expect(endpoint.heard.at(-1)?.serverName).toBe('any.test');
  });

  test('a name with a wildcard stands for one label', async () => {
    const endpoint = await tlsEndpoint(await partner(['*.partner.test']));
    await settings(endpoint, simple(), [credential({ ca: partners.rootPem })]);
    expect((await world.ask({ authority: 'a.partner.test' })).status).toBe(200);
    expect((await world.ask({ authority: 'a.b.partner.test' })).status).toBe(503);
    expect((await world.ask({ authority: 'partner.test' })).status).toBe(503);
  });

  test('a missing credential: 503 and nobody is called; one that goes ends what was made with it', async () => {
    const endpoint = await tlsEndpoint(await partner(['shop.test']));
    const absent = simple({ source: { kind: 'credential', name: 'test/absent' } });
    await settings(endpoint, absent);
    expect((await world.ask()).status).toBe(503);
    await logged(/there is no usable Secret test\/absent/);
    expect(endpoint.connections).toBe(0);
    await settings(endpoint, absent, [credential({ ca: partners.rootPem }, 'absent')]);
    expect((await world.ask()).status).toBe(200);
    await world.controller.push([], [{ type: 'credential', name: 'test/absent' }]);
    expect((await world.ask()).status).toBe(503);
    expect(endpoint.connections).toBe(1);
  });

  test('settings that are broken: 503 with the reason', async () => {
    const endpoint = await tlsEndpoint(await partner(['shop.test']));
    await settings(endpoint, { tls: { mode: 'broken', why: 'privateKey: MUTUAL needs it' } });
    expect((await world.ask()).status).toBe(503);
    await logged(/privateKey: MUTUAL needs it/);
    expect(endpoint.connections).toBe(0);
  });

  test('MUTUAL: shows its certificate, from a Secret or from files', async () => {
    const endpoint = await tlsEndpoint(await partner(['shop.test']), {
      requestCert: true,
      rejectUnauthorized: true,
      ca: partners.rootPem,
    });
    const { chain, privateKey } = await partner(['client.test']);
    const parts = { certificate: chain.join('\n'), privateKey, ca: partners.rootPem };
    await settings(endpoint, simple(), [credential(parts)]);
    expect((await world.ask()).status).toBe(503);
    await settings(endpoint, simple({ mode: 'mutual' }));
    expect((await world.ask()).status).toBe(200);
    expect(endpoint.heard.at(-1)?.peer).toContain('DNS:client.test');
    const file = (name: string, content: string): string => {
      writeFileSync(join(folder, name), content);
      return join(folder, name);
    };
    const source = {
      kind: 'files',
      ca: file('ca.pem', partners.rootPem),
      certificate: file('cert.pem', chain.join('\n')),
      privateKey: file('key.pem', privateKey),
    };
    await settings(endpoint, simple({ mode: 'mutual', source }));
    expect((await world.ask()).status).toBe(200);
    expect(endpoint.connections).toBeGreaterThanOrEqual(3);
    await settings(endpoint, simple({ source: { kind: 'files', ca: '/nowhere/ca.pem' } }));
    expect((await world.ask()).status).toBe(503);
    await logged(/\/nowhere\/ca\.pem cannot be read: ENOENT/);
  });

  test('ISTIO_MUTUAL outside of tunnels: with the identity of the waypoint, to the one of the workload only', async () => {
    const issued = await world.ca.issue('spiffe://cluster.local/ns/test/sa/legacy');
    const endpoint = await tlsEndpoint(issued, {
      requestCert: true,
      rejectUnauthorized: true,
      ca: world.ca.rootPem,
    });
    const mutual = { tls: { mode: 'istio-mutual', subjectAltNames: [] } };
    await settings(endpoint, mutual, [], { serviceAccount: 'legacy' });
    expect((await world.ask()).status).toBe(200);
    expect(endpoint.heard).toEqual([
      {
        serverName: 'outbound_.80_._.shop.test.svc.cluster.local',
        offered: ['istio-http/1.1', 'istio', 'http/1.1'],
        peer: 'URI:spiffe://cluster.local/ns/test/sa/waypoint',
        version: 'TLSv1.3',
      },
    ]);
    await settings(
      endpoint,
      { tls: { mode: 'istio-mutual', subjectAltNames: ['spiffe://cluster.local/ns/x/sa/y'] } },
      [],
      { serviceAccount: 'legacy' },
    );
    expect((await world.ask()).status).toBe(503);
  });

  test('an endpoint that does not speak TLS, or not in time: 503 with the reason', async () => {
    const where = await listening(createTcpServer());
    const pool = { ...defaultTraffic.pool, connectTimeoutMs: 200 };
    await settings(where, { ...simple(), pool }, [credential({ ca: partners.rootPem })]);
    expect((await world.ask()).status).toBe(503);
    await logged(/TLS_error: no handshake in 200 ms/);
    const plain = createTcpServer((socket) => {
      socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    });
    await settings(await listening(plain), simple());
    expect((await world.ask()).status).toBe(503);
    await logged(/503 UF.*TLS_error: wrong version number/);
  });

  test('inside the tunnel where the endpoint is in the mesh', async () => {
    const endpoint = await tlsEndpoint(await partner(['shop.test']));
    const trustDomain = parseTrustDomain('cluster.local');
    if (!trustDomain.ok) throw new TypeError('no trust domain');
    const authorities: string[] = [];
    const hbone = createHboneServer<'node'>({
      trustDomains: () => new Set([trustDomain.value]),
      onRejected: () => undefined,
      onTunnel: (request) => {
        authorities.push(request.authority);
        const stream = request.accept([]);
        const socket = new Socket({ allowHalfOpen: true });
        socket.connect(endpoint.port, endpoint.ip);
        socket.on('error', () => undefined);
        stream?.attach({
          data: (chunk) => void socket.write(chunk),
          end: () => socket.end(),
          drain: () => undefined,
          close: () => socket.destroy(),
        });
        socket.on('data', (chunk: Buffer) => stream?.write(chunk));
        socket.on('end', () => stream?.end());
      },
    });
    const certificate = await world.ca.certificate('spiffe://cluster.local/ns/test/sa/meshed');
    const node = createTcpServer({ allowHalfOpen: true }, (socket) =>
      hbone.accept(socket, certificate, 'node'),
    );
    const ip = own();
    await listenOn(node, ip, 15008);
    await settings({ ip, port: 8443 }, simple(), [credential({ ca: partners.rootPem })], {
      tunnel: 'hbone',
      serviceAccount: 'meshed',
    });
    expect(await world.ask()).toMatchObject({ status: 200, body: 'secure' });
    expect(authorities).toEqual([`${ip}:8443`]);
    expect(endpoint.heard[0]?.serverName).toBe('shop.test');
    hbone.end(() => true, 'destroy');
  });
});

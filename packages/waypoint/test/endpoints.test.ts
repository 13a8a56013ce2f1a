import { writeFileSync, mkdtempSync, rmSync } from 'node:fs';
import type { ServerHttp2Stream } from 'node:http2';
import { createSecureServer, createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo, Socket, Server as TcpServer } from 'node:net';
import { createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { TLSSocket, TlsOptions } from 'node:tls';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Upsert } from '@ambit/api';
import { defaultTraffic, noChanges, parseIp, parsePort } from '@ambit/api';
import type { TestCa } from '@ambit/testkit';
import { makeTestCa } from '@ambit/testkit';
import { startNodeProxy } from './node-proxy.ts';
import { forward, route } from './nouns.ts';
import type { WaypointWorld } from './world.ts';
import { shopKey, shopService, startWorld, vip } from './world.ts';

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
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  closers.push(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  await new Promise<void>((resolve) => server.listen(0, ip, resolve));
  return { ip, port: (server.address() as AddressInfo).port };
}

/** An endpoint of TLS that answers any request of HTTP/1.1. */
async function tlsEndpoint(
  certificate: { chain: readonly string[]; privateKey: string },
  options: TlsOptions = {},
  onData: (bytes: Buffer) => void = () => undefined,
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
      socket.on('data', (bytes: Buffer) => {
        onData(bytes);
        socket.write(answered);
      });
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

/** Waits until the access log has such a line; lines are written in batches, and reasons in one word. */
async function logged(what: RegExp): Promise<void> {
  const spaced = new RegExp(what.source.replaceAll(' ', '[ _]'));
  const deadline = Date.now() + 2000;
  while (!world.access.some((line) => spaced.test(line)) && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(world.access).toContainEqual(expect.stringMatching(spaced));
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

  test('a copy of a request asks for the name of the service, not for its own', async () => {
    const { chain, privateKey } = await partner(['shop.test']);
    const hosts: string[] = [];
    const endpoint = await tlsEndpoint({ chain, privateKey }, {}, (bytes) => {
      hosts.push(/^host: (.*)$/im.exec(bytes.toString())?.[1]?.trim() ?? '');
    });
    await settings(endpoint, simple(), [credential({ ca: partners.rootPem })]);
    const target = { kind: 'service', service: shopKey, port: 80 };
    const all = { weight: 100, target, request: noChanges, response: noChanges };
    await world.tell({
      routes: [
        {
          service: shopKey,
          http: [route({ action: forward(all), mirrors: [{ target, percentage: 100 }] })],
        },
      ],
    });
    closers.push(() => world.tell({ routes: [{ service: shopKey }] }));
    expect((await world.ask()).status).toBe(200);
    const deadline = Date.now() + 2000;
    while (hosts.length < 2 && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(new Set(hosts)).toEqual(new Set(['shop.test', 'shop.test-shadow']));
    expect(new Set(endpoint.heard.map(({ serverName }) => serverName))).toEqual(
      new Set(['shop.test']),
    );
  });

  test('caCrl: a certificate that was revoked is refused, in a Secret and in a file', async () => {
    const revoked = await partner(['shop.test']);
    const crl = await partners.revoke([revoked.chain[0] ?? '']);
    const [bad, good] = [
      await tlsEndpoint(revoked),
      await tlsEndpoint(await partner(['shop.test'])),
    ];
    await settings(bad, simple(), [credential({ ca: partners.rootPem })]);
    expect((await world.ask()).status).toBe(200);
    await settings(bad, simple(), [credential({ ca: partners.rootPem, crl })]);
    expect((await world.ask()).status).toBe(503);
    await logged(/503 UF.*TLS_error: certificate verify failed: CERT_REVOKED/);
    await settings(good, simple());
    expect((await world.ask()).status).toBe(200);
    for (const [name, content] of Object.entries({ 'roots.pem': partners.rootPem, 'crl.pem': crl }))
      writeFileSync(join(folder, name), content);
    const source = { kind: 'files', ca: join(folder, 'roots.pem'), crl: join(folder, 'crl.pem') };
    await settings(bad, simple({ source }));
    expect((await world.ask()).status).toBe(503);
    await settings(good, simple({ source }));
    expect((await world.ask()).status).toBe(200);
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
    const ip = own();
    const node = await startNodeProxy(world.ca, ip, endpoint);
    closers.push(() => node.close());
    await settings({ ip, port: 8443 }, simple(), [credential({ ca: partners.rootPem })], {
      tunnel: 'hbone',
      serviceAccount: 'meshed',
    });
    expect(await world.ask()).toMatchObject({ status: 200, body: 'secure' });
    expect(node.authorities).toEqual([`${ip}:8443`]);
    expect(endpoint.heard[0]?.serverName).toBe('shop.test');
  });
});

describe('the PROXY protocol', () => {
  /** An endpoint that keeps the first bytes of each connection and answers any request after them. */
  async function heardFirst(): Promise<{ ip: string; port: number; first: Buffer[] }> {
    const first: Buffer[] = [];
    const server = createTcpServer((socket) => {
      let begun = false;
      socket.on('data', (chunk: Buffer) => {
        if (!begun) first.push(chunk);
        begun = true;
        socket.write(answered);
      });
    });
    return { ...(await listening(server)), first };
  }

  test('version 1 tells of the client and of what it called, before the request', async () => {
    const endpoint = await heardFirst();
    await settings(endpoint, { proxyProtocol: 'v1' });
    expect((await world.ask()).status).toBe(200);
    expect(endpoint.first[0]?.toString('latin1')).toMatch(
      /^PROXY TCP4 127\.0\.0\.1 10\.96\.0\.1 \d+ 80\r\n(GET \/ HTTP|$)/,
    );
  });

  test('version 2; clients of two connections do not share one', async () => {
    const endpoint = await heardFirst();
    await settings(endpoint, { proxyProtocol: 'v2' });
    for (const as of ['client', 'other', 'client']) {
      expect((await world.ask({ as })).status).toBe(200);
    }
    expect(endpoint.first).toHaveLength(2);
    const [one, two] = endpoint.first.map((bytes) => bytes.subarray(0, 28));
    expect(one?.subarray(0, 24).toString('hex')).toBe(
      '0d0a0d0a000d0a515549540a2111000c7f0000010a600001',
    );
    expect(one?.readUInt16BE(26)).toBe(80);
    expect(one?.readUInt16BE(24)).not.toBe(two?.readUInt16BE(24));
  });

  test('comes first where connections are routed, by their bytes or by server name', async () => {
    const first: string[] = [];
    const server = createTcpServer((socket) => {
      socket.once('data', (chunk: Buffer) => {
        first.push(chunk.toString('latin1'));
        socket.end('served');
      });
    });
    const { ip, port } = await listening(server);
    const serving = { service: shopKey, ready: true };
    const ports = [80, 443, 9000].map((servicePort) => ({ servicePort, targetPort: port }));
    await settings({ ip, port }, { proxyProtocol: 'v1' }, [], {
      services: [{ ...serving, ports }],
    });
    const to = (number: number) => ({
      weight: 1,
      target: { kind: 'service', service: shopKey, port: number },
      request: noChanges,
      response: noChanges,
    });
    const matches = [{ sourceLabels: [], destinationSubnets: [], sniHosts: ['one.example'] }];
    await world.tell({
      services: [
        shopService({
          ports: [
            { name: 'http', port: 80, appProtocol: '' },
            { name: 'tls', port: 443, appProtocol: '' },
            { name: 'tcp', port: 9000, appProtocol: '' },
          ],
        }),
      ],
      routes: [
        {
          service: shopKey,
          tls: [{ name: 'r', matches, targets: [to(443)] }],
          tcp: [{ name: 'r', matches: [], targets: [to(9000)] }],
        },
      ],
    });
    closers.push(() => world.tell({ services: [shopService()], routes: [{ service: shopKey }] }));
    const ended = async (stream: Duplex): Promise<void> => {
      stream.on('error', () => undefined);
      stream.resume();
      await new Promise((resolve) => stream.once('close', resolve).once('end', resolve));
      stream.destroy();
    };
    const bytes = await world.tunnel(9000);
    bytes.write('hello');
    await ended(bytes);
    const tunnel = await world.tunnel(443);
    const over = ended(tunnel);
    connectTls({ socket: tunnel, servername: 'one.example' }).on('error', () => undefined);
    await over;
    expect(first[0]).toMatch(/^PROXY TCP4 127\.0\.0\.1 10\.96\.0\.1 \d+ 9000\r\n(hello)?$/);
    expect(first[1]).toMatch(/^PROXY TCP4 127\.0\.0\.1 10\.96\.0\.1 \d+ 443\r\n(\x16\x03[^]*)?$/);
  });

  test('comes before TLS', async () => {
    const { chain, privateKey } = await partner(['shop.test']);
    const heard: string[] = [];
    const inner = createTlsServer({ cert: chain.join('\n'), key: privateKey }, (socket) => {
      socket.on('error', () => undefined);
      socket.on('data', () => socket.write(answered));
    });
    const server = createTcpServer((socket) => {
      socket.once('data', (chunk: Buffer) => {
        const end = chunk.indexOf('\r\n') + 2;
        heard.push(chunk.subarray(0, end).toString());
        socket.pause();
        if (chunk.length > end) socket.unshift(chunk.subarray(end));
        inner.emit('connection', socket);
      });
    });
    await settings(await listening(server), { ...simple(), proxyProtocol: 'v1' }, [
      credential({ ca: partners.rootPem }),
    ]);
    expect(await world.ask()).toMatchObject({ status: 200, body: 'secure' });
    expect(heard[0]).toMatch(/^PROXY TCP4 127\.0\.0\.1 10\.96\.0\.1 \d+ 80\r\n$/);
  });
});

describe('the version of HTTP to endpoints', () => {
  interface Http2Endpoint {
    readonly ip: string;
    readonly port: number;
    readonly requests: string[];
    sessions: number;
  }

  async function http2Endpoint(options?: { cert: string; key: string }): Promise<Http2Endpoint> {
    const endpoint = { requests: new Array<string>(), sessions: 0 };
    const server =
      options === undefined
        ? createHttp2Server()
        : createSecureServer({ ...options, allowHTTP1: false });
    server.on('session', (session) => {
      endpoint.sessions += 1;
      session.on('error', () => undefined);
    });
    server.on('stream', (opened, headers) => {
      const stream = opened as ServerHttp2Stream;
      endpoint.requests.push(`${endpoint.sessions} ${String(headers[':path'])}`);
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('error', () => undefined);
      stream.on('end', () => {
        stream.respond({ ':status': 200 });
        stream.end(`h2 ${Buffer.concat(chunks).toString()}`);
      });
    });
    return Object.assign(endpoint, await listening(server));
  }

  const pool = (fields: object) => ({ pool: { ...defaultTraffic.pool, ...fields } });

  test('UPGRADE: requests of HTTP/1.1 go out on one connection of HTTP/2', async () => {
    const endpoint = await http2Endpoint();
    await settings(endpoint, pool({ h2Upgrade: 'upgrade' }));
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => world.ask({ method: 'POST', body: 'hello' })),
    );
    expect(new Set(answers.map(({ status, body }) => `${status} ${body}`))).toEqual(
      new Set(['200 h2 hello']),
    );
    expect(endpoint.sessions).toBe(1);
  });

  test('over TLS the endpoint chooses, and DO_NOT_UPGRADE keeps HTTP/1.1', async () => {
    const { chain, privateKey } = await partner(['shop.test']);
    const options = { cert: chain.join('\n'), key: privateKey };
    const trust = [credential({ ca: partners.rootPem })];
    const endpoint = await http2Endpoint(options);
    await settings(endpoint, simple(), trust);
    expect(await world.ask()).toMatchObject({ status: 200, body: 'h2 ' });
    await settings(endpoint, { ...simple(), ...pool({ h2Upgrade: 'do-not-upgrade' }) });
    expect((await world.ask()).status).toBe(503);
    const old = await tlsEndpoint({ chain, privateKey });
    await settings(old, { ...simple(), ...pool({ h2Upgrade: 'do-not-upgrade' }) });
    expect(await world.ask()).toMatchObject({ status: 200, body: 'secure' });
    expect(old.heard[0]?.offered).toEqual(['http/1.1']);
  });

  test('maxRequestsPerConnection and maxConcurrentStreams hold for HTTP/2', async () => {
    const endpoint = await http2Endpoint();
    await settings(endpoint, pool({ h2Upgrade: 'upgrade', maxRequestsPerConnection: 3 }));
    for (let index = 0; index < 7; index += 1) expect((await world.ask()).status).toBe(200);
    expect(endpoint.requests.map((one) => one.split(' ')[0]).join('')).toBe('1112223');
    const other = await http2Endpoint();
    await settings(other, pool({ h2Upgrade: 'upgrade', maxConcurrentStreams: 2 }));
    const answers = await Promise.all(Array.from({ length: 6 }, () => world.ask()));
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 6 }, () => 200));
    expect(other.sessions).toBeGreaterThanOrEqual(3);
  });
});

describe('limits of connections', () => {
  interface Slow {
    readonly ip: string;
    readonly port: number;
    connections: number;
    closed: number;
    answer(): void;
  }

  /** An endpoint of HTTP/1.1 that answers when it is told to, or at once. */
  async function slowEndpoint(held = false): Promise<Slow> {
    const waiting: Socket[] = [];
    const endpoint = { connections: 0, closed: 0 };
    const server = createTcpServer((socket) => {
      endpoint.connections += 1;
      socket.on('close', () => (endpoint.closed += 1));
      socket.on('data', () => {
        if (held) waiting.push(socket);
        else socket.write(answered);
      });
    });
    return Object.assign(endpoint, await listening(server), {
      answer: () => {
        for (const socket of waiting.splice(0)) socket.write(answered);
      },
    });
  }

  const pool = (fields: object) => ({ pool: { ...defaultTraffic.pool, ...fields } });
  const soon = async (what: () => boolean): Promise<void> => {
    const deadline = Date.now() + 3000;
    while (!what() && Date.now() < deadline) await new Promise((wait) => setTimeout(wait, 5));
    expect(what()).toBe(true);
  };

  test('maxConnectionDuration: a connection ends when it is old, and not in a request', async () => {
    const endpoint = await slowEndpoint(true);
    await settings(endpoint, pool({ maxConnectionDurationMs: 150 }));
    const asked = world.ask();
    await soon(() => endpoint.connections === 1);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(endpoint.closed).toBe(0);
    endpoint.answer();
    expect((await asked).status).toBe(200);
    await soon(() => endpoint.closed === 1);
  });

  test('idleTimeout: an idle connection is closed, and only then', async () => {
    const endpoint = await slowEndpoint();
    await settings(endpoint, pool({ idleTimeoutMs: 200 }));
    await world.ask();
    await world.ask();
    expect(endpoint.connections).toBe(1);
    await soon(() => endpoint.closed === 1);
    await world.ask();
    expect(endpoint.connections).toBe(2);
  });

  test('maxConnections with maxPendingRequests: one waits, the next is refused with UO', async () => {
    const endpoint = await slowEndpoint(true);
    await settings(endpoint, pool({ maxConnections: 1, maxPendingRequests: 1 }));
    const first = world.ask();
    await soon(() => endpoint.connections === 1);
    const second = world.ask();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await world.ask()).status).toBe(503);
    await logged(/503 UO/);
    endpoint.answer();
    expect((await first).status).toBe(200);
    await new Promise((resolve) => setTimeout(resolve, 50));
    endpoint.answer();
    expect((await second).status).toBe(200);
    expect(endpoint.connections).toBe(1);
  });

  test('maxRequests: one more is refused with UO', async () => {
    const endpoint = await slowEndpoint(true);
    await settings(endpoint, pool({ maxRequests: 1 }));
    const first = world.ask();
    await soon(() => endpoint.connections === 1);
    expect((await world.ask()).status).toBe(503);
    await logged(/503 UO/);
    endpoint.answer();
    expect((await first).status).toBe(200);
  });

  test('bytes alone: idle and old connections are cut', async () => {
    const server = createTcpServer((socket) => socket.on('data', (chunk) => socket.write(chunk)));
    const endpoint = await listening(server);
    await world.tell({
      services: [shopService({ ports: [{ name: 'tcp', port: 80, appProtocol: '' }] })],
    });
    const cutAfter = async (fields: object): Promise<number> => {
      await settings(endpoint, pool(fields));
      const session = await world.session();
      const [ip, port] = [parseIp(vip), parsePort(80)];
      if (!ip.ok || !port.ok) throw new TypeError('no address');
      const { stream } = await session.openTunnel({
        authority: { kind: 'address', ip: ip.value, port: port.value },
        headers: [],
        timeoutMs: 3000,
      });
      const began = performance.now();
      return new Promise((resolve) => {
        const speaks = setInterval(() => stream.write(Buffer.from('x')), 40);
        setTimeout(() => {
          if ('tcpIdleTimeoutMs' in fields) clearInterval(speaks);
        }, 200);
        stream.attach({
          data: () => undefined,
          end: () => undefined,
          drain: () => undefined,
          close: () => {
            clearInterval(speaks);
            resolve(performance.now() - began);
          },
        });
      });
    };
    const idle = await cutAfter({ tcpIdleTimeoutMs: 150 });
    expect(idle).toBeGreaterThan(280);
    expect(idle).toBeLessThan(1500);
    const old = await cutAfter({ maxConnectionDurationMs: 250 });
    expect(old).toBeGreaterThan(200);
    expect(old).toBeLessThan(1500);
    await world.tell({ services: [shopService()] });
  });
});

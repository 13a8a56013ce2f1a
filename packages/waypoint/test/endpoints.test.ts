import type { ServerHttp2Stream } from 'node:http2';
import { createSecureServer, createServer as createHttp2Server } from 'node:http2';
import type { Socket } from 'node:net';
import { createServer as createTcpServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { describe, expect, test } from '@jest/globals';
import { defaultTraffic, noChanges, parseIp, parsePort } from '@ambit/api';
import { answered, credential, simple, useEndpoints } from './endpoint-world.ts';
import { shopKey, shopService, vip } from './world.ts';

const endpoints = useEndpoints();
const { listening, tlsEndpoint, settings, partner, logged, later } = endpoints;

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
    expect((await endpoints.world.ask()).status).toBe(200);
    expect(endpoint.first[0]?.toString('latin1')).toMatch(
      /^PROXY TCP4 127\.0\.0\.1 10\.96\.0\.1 \d+ 80\r\n(GET \/ HTTP|$)/,
    );
  });

  test('version 2; clients of two connections do not share one', async () => {
    const endpoint = await heardFirst();
    await settings(endpoint, { proxyProtocol: 'v2' });
    for (const as of ['client', 'other', 'client']) {
      expect((await endpoints.world.ask({ as })).status).toBe(200);
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
    await endpoints.world.tell({
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
    later(() =>
      endpoints.world.tell({ services: [shopService()], routes: [{ service: shopKey }] }),
    );
    const ended = async (stream: Duplex): Promise<void> => {
      stream.on('error', () => undefined);
      stream.resume();
      await new Promise((resolve) => stream.once('close', resolve).once('end', resolve));
      stream.destroy();
    };
    const bytes = await endpoints.world.tunnel(9000);
    bytes.write('hello');
    await ended(bytes);
    const tunnel = await endpoints.world.tunnel(443);
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
      credential({ ca: endpoints.partners.rootPem }),
    ]);
    expect(await endpoints.world.ask()).toMatchObject({ status: 200, body: 'secure' });
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
      Array.from({ length: 20 }, () => endpoints.world.ask({ method: 'POST', body: 'hello' })),
    );
    expect(new Set(answers.map(({ status, body }) => `${status} ${body}`))).toEqual(
      new Set(['200 h2 hello']),
    );
    expect(endpoint.sessions).toBe(1);
  });

  test('over TLS the endpoint chooses, and DO_NOT_UPGRADE keeps HTTP/1.1', async () => {
    const { chain, privateKey } = await partner(['shop.test']);
    const options = { cert: chain.join('\n'), key: privateKey };
    const trust = [credential({ ca: endpoints.partners.rootPem })];
    const endpoint = await http2Endpoint(options);
    await settings(endpoint, simple(), trust);
    expect(await endpoints.world.ask()).toMatchObject({ status: 200, body: 'h2 ' });
    await settings(endpoint, { ...simple(), ...pool({ h2Upgrade: 'do-not-upgrade' }) });
    expect((await endpoints.world.ask()).status).toBe(503);
    const old = await tlsEndpoint({ chain, privateKey });
    await settings(old, { ...simple(), ...pool({ h2Upgrade: 'do-not-upgrade' }) });
    expect(await endpoints.world.ask()).toMatchObject({ status: 200, body: 'secure' });
    expect(old.heard[0]?.offered).toEqual(['http/1.1']);
  });

  test('maxRequestsPerConnection and maxConcurrentStreams hold for HTTP/2', async () => {
    const endpoint = await http2Endpoint();
    await settings(endpoint, pool({ h2Upgrade: 'upgrade', maxRequestsPerConnection: 3 }));
    for (let index = 0; index < 7; index += 1)
      expect((await endpoints.world.ask()).status).toBe(200);
    expect(endpoint.requests.map((one) => one.split(' ')[0]).join('')).toBe('1112223');
    const other = await http2Endpoint();
    await settings(other, pool({ h2Upgrade: 'upgrade', maxConcurrentStreams: 2 }));
    const answers = await Promise.all(Array.from({ length: 6 }, () => endpoints.world.ask()));
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
  async function slowEndpoint(held = false, answer = answered): Promise<Slow> {
    const waiting: Socket[] = [];
    const endpoint = { connections: 0, closed: 0 };
    const server = createTcpServer((socket) => {
      endpoint.connections += 1;
      socket.on('close', () => (endpoint.closed += 1));
      socket.on('data', () => {
        if (held) waiting.push(socket);
        else socket.write(answer);
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
    const asked = endpoints.world.ask();
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
    await endpoints.world.ask();
    await endpoints.world.ask();
    expect(endpoint.connections).toBe(1);
    await soon(() => endpoint.closed === 1);
    await endpoints.world.ask();
    expect(endpoint.connections).toBe(2);
  });

  test.each([
    ['timeout=1', 1, 700],
    ['timeout=1, max=100', 1, 700],
    ['max=100, timeout=60', 1, 0],
    ['timeout=0', 2, 0],
    ['timeout=now', 1, 0],
  ])(
    'an endpoint that keeps idle connections for so long, Keep-Alive: %s, is sent nothing on one that it may be closing',
    async (said, connections, idleMs) => {
      const kept = answered.replace('\r\n\r\n', `\r\nkeep-alive: ${said}\r\n\r\n`);
      const endpoint = await slowEndpoint(false, kept);
      await settings(endpoint, {});
      await endpoints.world.ask();
      await endpoints.world.ask();
      expect(endpoint.connections).toBe(connections);
      if (idleMs === 0) return;
      await new Promise((resolve) => setTimeout(resolve, idleMs));
      expect((await endpoints.world.ask()).status).toBe(200);
      expect(endpoint.connections).toBe(connections + 1);
      await soon(() => endpoint.closed === 1);
    },
  );

  test('maxConnections with maxPendingRequests: one waits, the next is refused with UO', async () => {
    const endpoint = await slowEndpoint(true);
    await settings(endpoint, pool({ maxConnections: 1, maxPendingRequests: 1 }));
    const first = endpoints.world.ask();
    await soon(() => endpoint.connections === 1);
    const second = endpoints.world.ask();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await endpoints.world.ask()).status).toBe(503);
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
    const first = endpoints.world.ask();
    await soon(() => endpoint.connections === 1);
    expect((await endpoints.world.ask()).status).toBe(503);
    await logged(/503 UO/);
    endpoint.answer();
    expect((await first).status).toBe(200);
  });

  test('bytes alone: idle and old connections are cut', async () => {
    const server = createTcpServer((socket) => socket.on('data', (chunk) => socket.write(chunk)));
    const endpoint = await listening(server);
    await endpoints.world.tell({
      services: [shopService({ ports: [{ name: 'tcp', port: 80, appProtocol: '' }] })],
    });
    const cutAfter = async (fields: object): Promise<number> => {
      await settings(endpoint, pool(fields));
      const session = await endpoints.world.session();
      const [ip, port] = [parseIp(vip), parsePort(80)];
      if (!ip.ok || !port.ok) throw new TypeError('no address');
      const { stream } = await session.openTunnel({
        authority: { kind: 'address', ip: ip.value, port: port.value },
        headers: [],
        timeoutMs: 15_000,
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
    await endpoints.world.tell({ services: [shopService()] });
  });
});

import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo, Socket, Server as TcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket, TlsOptions } from 'node:tls';
import { createServer as createTlsServer } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from '@jest/globals';
import type { Upsert } from '@ambit/api';
import { defaultTraffic } from '@ambit/api';
import type { TestCa } from '@ambit/testkit';
import { makeTestCa } from '@ambit/testkit';
import type { WaypointWorld } from './world.ts';
import { shopKey, shopService, startWorld } from './world.ts';

export interface Heard {
  readonly serverName: string | undefined;
  readonly offered: readonly string[];
  readonly peer: string | undefined;
  readonly version: string;
}

export interface Endpoint {
  readonly ip: string;
  readonly port: number;
  readonly heard: Heard[];
  connections: number;
}

interface Where {
  readonly ip: string;
  readonly port: number;
}

/** A waypoint before the shop, whose one endpoint each test makes itself. */
export interface EndpointWorld {
  readonly world: WaypointWorld;
  /** Who signs for endpoints, and is none of the mesh. */
  readonly partners: TestCa;
  readonly folder: string;
  /** An address of loopback that nobody else has. */
  readonly own: () => string;
  /** Listens on such an address until the test is over. */
  readonly listening: (server: TcpServer) => Promise<Where>;
  /** An endpoint of TLS that answers any request of HTTP/1.1. */
  readonly tlsEndpoint: (
    certificate: { readonly chain: readonly string[]; readonly privateKey: string },
    options?: TlsOptions,
    onData?: (bytes: Buffer) => void,
  ) => Promise<Endpoint>;
  /** Tells of the endpoint, and of the shop's DestinationRule. */
  readonly settings: (
    endpoint: Where,
    policy: object,
    more?: readonly Upsert[],
    fields?: object,
  ) => Promise<void>;
  /** A certificate of the partners for such names. */
  readonly partner: (names: readonly string[]) => ReturnType<TestCa['issue']>;
  /** Waits until the access log has such a line; lines are written in batches, and reasons in one word. */
  readonly logged: (what: RegExp) => Promise<void>;
  /** Something to do when the test is over. */
  readonly later: (close: () => Promise<void>) => void;
}

export const answered = 'HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecure';
let versions = 0;

export function credential(parts: object, name = 'partner'): Upsert {
  versions += 1;
  return {
    type: 'credential',
    name: `test/${name}`,
    version: `c${versions}`,
    resource: { name, namespace: 'test', ...parts },
  } as unknown as Upsert;
}

/** The traffic policy of TLS with a Secret. */
export function simple(fields: object = {}) {
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

function workloadAt({ ip, port }: { ip: string; port: number }, fields: object = {}) {
  return {
    name: 'endpoint',
    addresses: [ip],
    tunnel: 'none',
    services: [{ service: shopKey, ready: true, ports: [{ servicePort: 80, targetPort: port }] }],
    ...fields,
  };
}

/** For a file of tests; what it has is there once the first one begins. */
export function useEndpoints(): EndpointWorld {
  let world: WaypointWorld;
  let partners: TestCa;
  let address = 1;
  const folder = mkdtempSync(join(tmpdir(), 'ambit-tls-'));
  const closers: (() => Promise<void>)[] = [];
  beforeAll(async () => {
    partners = await makeTestCa();
    world = await startWorld({ services: [shopService()], workloads: [] });
  }, 30_000);
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
  function own(): string {
    address += 1;
    return `127.0.3.${address}`;
  }

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

  async function logged(what: RegExp): Promise<void> {
    const spaced = new RegExp(what.source.replaceAll(' ', '[ _]'));
    const deadline = Date.now() + 2000;
    while (!world.access.some((line) => spaced.test(line)) && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(world.access).toContainEqual(expect.stringMatching(spaced));
  }

  return {
    get world() {
      return world;
    },
    get partners() {
      return partners;
    },
    folder,
    own,
    listening,
    tlsEndpoint,
    settings,
    partner: (names) =>
      partners.issue('spiffe://partner.test/ns/a/sa/b', {
        names: names.map((value) => ({ type: 'dns', value })),
      }),
    logged,
    later: (close) => void closers.push(close),
  };
}

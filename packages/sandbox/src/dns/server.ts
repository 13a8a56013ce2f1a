import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import { decode, encode, streamEncode, type Packet } from 'dns-packet';
import { resources, type ClusterStore } from '../cluster/store.ts';
import { describe, type ClusterLogger } from '../cluster/work-queue.ts';
import { answerQuery } from './answer.ts';
import { buildDnsView, type DnsView } from './records.ts';

export interface ClusterDnsOptions {
  readonly store: ClusterStore;
  readonly logger: ClusterLogger;
  readonly domain: string;
  readonly addresses: readonly string[];
  readonly port?: number;
}

export interface ClusterDns {
  readonly port: number;
  close(): Promise<void>;
}

const quietMs = 10;
const maxUdpBytes = 1232;
const maxTcpClients = 256;
const tcpIdleMs = 10_000;

/** Serves the cluster's names over UDP and TCP on every given address. */
export async function startClusterDns(options: ClusterDnsOptions): Promise<ClusterDns> {
  const { store, logger, domain } = options;
  let view: DnsView = buildDnsView(domain, { services: [], slices: [], pods: [] });
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  async function rebuild(): Promise<void> {
    const [services, slices, pods] = await Promise.all([
      store.list(resources.services),
      store.list(resources.endpointSlices),
      store.list(resources.pods),
    ]);
    view = buildDnsView(domain, { services, slices, pods });
  }

  function changed(): void {
    if (closed || timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      void rebuild().catch((error: unknown) =>
        logger.warn({ error: describe(error) }, 'cluster names were not rebuilt'),
      );
    }, quietMs);
  }

  const answer = (message: Buffer): Packet | undefined => {
    try {
      const query = decode(message);
      return query.type === 'query' ? answerQuery(view, query, domain) : undefined;
    } catch {
      return undefined;
    }
  };

  const stops = [
    store.observe(resources.services, changed),
    store.observe(resources.endpointSlices, changed),
    store.observe(resources.pods, changed),
  ];
  await rebuild();
  const udp: UdpSocket[] = [];
  const tcp: Server[] = [];
  let port = options.port ?? 53;
  for (const address of options.addresses) {
    const server = await listenTcp(address, port, answer);
    const bound = server.address();
    if (typeof bound === 'object' && bound !== null) port = bound.port;
    tcp.push(server);
    udp.push(await listenUdp(address, port, answer, logger));
  }
  return {
    port,
    async close() {
      closed = true;
      clearTimeout(timer);
      for (const stop of stops) stop();
      await Promise.all([
        ...udp.map((socket) => new Promise<void>((resolve) => socket.close(() => resolve()))),
        ...tcp.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))),
      ]);
    },
  };
}

type AnswerMessage = (message: Buffer) => Packet | undefined;

async function listenUdp(
  address: string,
  port: number,
  answer: AnswerMessage,
  logger: ClusterLogger,
): Promise<UdpSocket> {
  const socket = createSocket({
    type: address.includes(':') ? 'udp6' : 'udp4',
    ipv6Only: address.includes(':'),
  });
  socket.on('message', (message, from) => {
    const packet = answer(message);
    if (packet === undefined) return;
    const full = encode(packet);
    const bytes =
      full.length <= maxUdpBytes
        ? full
        : encode({
            ...packet,
            flags: (packet.flags ?? 0) | 0x0200,
            answers: [],
            authorities: [],
            additionals: [],
          });
    socket.send(bytes, from.port, from.address, (error) => {
      if (error) logger.debug({ error: error.message }, 'a DNS answer was not sent');
    });
  });
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(port, address, () => {
      socket.off('error', reject);
      socket.on('error', (error) => logger.warn({ error: error.message }, 'DNS socket failed'));
      resolve();
    });
  });
  return socket;
}

async function listenTcp(address: string, port: number, answer: AnswerMessage): Promise<Server> {
  const clients = new Set<Socket>();
  const server = createServer((socket) => {
    clients.add(socket);
    socket.on('close', () => clients.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.setTimeout(tcpIdleMs, () => socket.destroy());
    let buffered = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      buffered = Buffer.concat([buffered, chunk]);
      while (buffered.length >= 2 && buffered.length >= 2 + buffered.readUInt16BE(0)) {
        const length = buffered.readUInt16BE(0);
        const packet = answer(buffered.subarray(2, 2 + length));
        buffered = buffered.subarray(2 + length);
        if (packet === undefined) socket.destroy();
        else socket.write(streamEncode(packet));
      }
    });
  });
  server.maxConnections = maxTcpClients;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: address, port, ipv6Only: address.includes(':') }, () => {
      server.off('error', reject);
      server.on('error', () => undefined);
      resolve();
    });
  });
  // A server closes only when its clients have gone.
  const close = server.close.bind(server);
  server.close = (callback) => {
    for (const client of clients) client.destroy();
    return close(callback);
  };
  return server;
}

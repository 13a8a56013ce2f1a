import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';

import type { ControllerFrame, Result } from '@ambit/api';
import { controlPath, maxFrameBytes } from '@ambit/api';
import { listening, makeRoom } from '@ambit/core';
import { WebSocket, WebSocketServer } from 'ws';

import { tokenEndMs } from '../ca/authenticate.ts';
import type { NodeProxy } from '../ca/node-authorizer.ts';
import { countsMore, maxValues } from '../json-values.ts';
import type { Log } from '../log.ts';
import type { Hub } from './hub.ts';

/** Key and certificate that the control port shows. */
export interface ServingCertificate {
  readonly keyPem: string;
  readonly chainPem: string;
}

export interface ListenerOptions {
  /** Address to listen on; every address of the host when absent. */
  readonly host: string | undefined;
  readonly port: number;
  readonly certificate: ServingCertificate;
  readonly hub: Hub;
  /** Who brings this token; asked before the connection is made. */
  readonly admit: (
    token: string,
  ) => Promise<Result<NodeProxy, { readonly code: string; readonly reason: string }>>;
  /** Whether one that was admitted still would be, by what is known of pods now. */
  readonly isStillGood: (proxy: NodeProxy) => boolean;
  readonly nowMs: () => number;
  readonly log: Log;
  readonly pingMs?: number;
}

export interface Listener {
  readonly address: AddressInfo;
  useCertificate(certificate: ServingCertificate): void;
  close(): Promise<void>;
}

const handshakeTimeoutMs = 5_000;
const defaultPingMs = 15_000;
/** Connections whose token is still being looked at; the rest are told to come again. */
const maxArriving = 256;
/** With half of them taken nobody has more than these from one address. */
const maxArrivingOfOne = 16;
/** Connections of which it is not known yet whose they are; the oldest goes. */
const maxStrangers = 512;
/** A proxy that connects anew may not know yet that its last connection is gone; no honest one has more. */
const maxOfOneProxy = 4;
/** A proxy that reads nothing while this much waits for it is cut off: it resumes by versions. */
const maxBufferedBytes = 16 * maxFrameBytes;

/** The control port: WebSocket over TLS, for proxies with a good token only. */
export async function startListener(options: ListenerOptions): Promise<Listener> {
  const server = createServer({
    ...contextOf(options.certificate),
    handshakeTimeout: handshakeTimeoutMs,
    headersTimeout: handshakeTimeoutMs,
    requestTimeout: handshakeTimeoutMs,
    connectionsCheckingInterval: 1000,
  });
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: maxFrameBytes,
    perMessageDeflate: false,
    clientTracking: true,
  });
  const room = makeRoom(server, maxStrangers);
  const arrivals = createArrivals();
  const ofProxies = new Map<string, Set<WebSocket>>();
  server.on('request', (_request, response) => {
    response.writeHead(404, { connection: 'close' }).end();
  });
  server.on('tlsClientError', (error) => {
    options.log.debug({ err: error }, 'TLS handshake on the control port failed');
  });
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const ignore = (): void => undefined;
    socket.on('error', ignore);
    const leave = arrivals.enter(request.socket.remoteAddress ?? '');
    if (leave === undefined) {
      answer(socket, 503);
      return;
    }
    void admitted(request, options)
      .then((outcome) => {
        if (socket.destroyed) return;
        if (typeof outcome === 'number') {
          answer(socket, outcome);
          return;
        }
        sockets.handleUpgrade(request, socket, head, (webSocket) => {
          socket.off('error', ignore);
          room.release(request.socket);
          keepFew(ofProxies, outcome.proxy.caller.podUid, webSocket);
          serve(webSocket, outcome, options);
        });
      })
      .finally(leave);
  });
  const address = await listening(server, options);
  server.on('error', (error) => options.log.error({ err: error }, 'control port failed'));
  return {
    address,
    useCertificate: (certificate) => server.setSecureContext(contextOf(certificate)),
    close: async () => {
      for (const one of sockets.clients) one.terminate();
      sockets.close();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function contextOf({ keyPem, chainPem }: ServingCertificate) {
  return { key: keyPem, cert: chainPem, minVersion: 'TLSv1.3' as const };
}

/** Counts whose tokens are being looked at. */
function createArrivals(): { enter(address: string): (() => void) | undefined } {
  const byAddress = new Map<string, number>();
  let all = 0;
  return {
    /** How to leave; undefined where there is no room. */
    enter: (address) => {
      const own = byAddress.get(address) ?? 0;
      const isCrowded = all >= maxArriving / 2 && own >= maxArrivingOfOne;
      if (isCrowded || all >= maxArriving) return undefined;
      byAddress.set(address, own + 1);
      all += 1;
      return () => {
        all -= 1;
        const left = (byAddress.get(address) ?? 1) - 1;
        if (left > 0) byAddress.set(address, left);
        else byAddress.delete(address);
      };
    },
  };
}

/** Whoever has a proxy's token may connect with it again and again. */
function keepFew(all: Map<string, Set<WebSocket>>, pod: string, added: WebSocket): void {
  const own = all.get(pod) ?? new Set();
  all.set(pod, own);
  const [oldest] = own;
  if (oldest !== undefined && own.size >= maxOfOneProxy) {
    own.delete(oldest);
    oldest.terminate();
  }
  own.add(added);
  added.once('close', () => {
    own.delete(added);
    if (own.size === 0 && all.get(pod) === own) all.delete(pod);
  });
}

interface Admitted {
  readonly token: string;
  readonly proxy: NodeProxy;
}

/** Who comes in, or the HTTP status of the refusal. */
async function admitted(
  request: IncomingMessage,
  { admit, log }: ListenerOptions,
): Promise<Admitted | number> {
  if (request.url !== controlPath) return 404;
  const token = /^Bearer ([\x21-\x7e]+)$/.exec(request.headers.authorization ?? '')?.[1];
  if (token === undefined) return 401;
  try {
    const proxy = await admit(token);
    if (proxy.ok) return { token, proxy: proxy.value };
    const { code, reason } = proxy.error;
    log.warn({ 'peer.address': request.socket.remoteAddress, code, reason }, 'proxy not admitted');
    return code === 'unavailable' ? 503 : 401;
  } catch (error) {
    log.error({ err: error }, 'proxy not admitted: its token could not be checked');
    return 503;
  }
}

const statusLines: ReadonlyMap<number, string> = new Map([
  [401, '401 Unauthorized'],
  [404, '404 Not Found'],
  [503, '503 Service Unavailable'],
]);

function answer(socket: Duplex, status: number): void {
  const line = statusLines.get(status) ?? '500 Internal Server Error';
  socket.end(`HTTP/1.1 ${line}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

/** Of the time for which its token holds, so much at most is left when a proxy has to come with another one. */
const restShare = 0.1;

/**
 * A connection is worth no more than the token with which it was made: a proxy's requests would be refused from its end
 * on. It comes again before that, with the one that its kubelet has put there meanwhile, and not all at once.
 */
function leaveAt(tokenEndsMs: number, nowMs: number): number {
  if (tokenEndsMs === Infinity) return Infinity;
  return tokenEndsMs - (tokenEndsMs - nowMs) * restShare * (0.2 + 0.8 * Math.random());
}

function serve(webSocket: WebSocket, { token, proxy }: Admitted, options: ListenerOptions): void {
  const fields = { node: proxy.node, pod: proxy.caller.podName };
  const send = (frame: ControllerFrame): void => {
    if (webSocket.readyState !== WebSocket.OPEN) return;
    webSocket.send(JSON.stringify(frame));
    if (webSocket.bufferedAmount > maxBufferedBytes) {
      options.log.warn({ ...fields, maxBufferedBytes }, 'proxy disconnected: it does not read');
      webSocket.terminate();
    }
  };
  const connection = options.hub.connect({
    token,
    proxy,
    channel: { send, close: (reason) => webSocket.close(1008, reason.slice(0, 120)) },
  });
  let alive = true;
  const leaveAtMs = leaveAt(tokenEndMs(token), options.nowMs());
  const ping = setInterval(() => {
    if (options.nowMs() >= leaveAtMs) {
      webSocket.close(1008, 'its token ends; it comes again with the next one');
      return;
    }
    if (!options.isStillGood(proxy)) {
      options.log.warn(fields, 'proxy disconnected: its pod is not there any more, or another');
      webSocket.terminate();
      return;
    }
    if (!alive) {
      webSocket.terminate();
      return;
    }
    alive = false;
    webSocket.ping();
  }, options.pingMs ?? defaultPingMs);
  webSocket.on('pong', () => (alive = true));
  webSocket.on('error', (error) => {
    options.log.debug({ ...fields, err: error }, 'control connection failed');
  });
  webSocket.on('message', (data, isBinary) => {
    alive = true;
    if (isBinary) webSocket.close(1003, 'frames are text');
    // `nodebuffer` is the default binary type, so this is one Buffer.
    else if (countsMore(data as Buffer, maxValues)) webSocket.close(1009, 'too many values');
    else connection.frame((data as Buffer).toString('utf8'));
  });
  webSocket.on('close', () => {
    clearInterval(ping);
    connection.closed();
    options.log.info(fields, 'proxy disconnected');
  });
  options.log.info(fields, 'proxy connected');
}

import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { connect as tlsConnect } from 'node:tls';
import type { SpiffeIdentity } from '@ambit/api';
import type { FieldList, Http2Stream, SessionHandlers, SessionLimits } from '../http2/index.ts';
import { Http2Error, Session, errorCode, socketTransport } from '../http2/index.ts';
import { Deadline } from '../lifecycle/deadline.ts';
import type { ExpectedPeer, WorkloadCertificate } from '../tls/index.ts';
import { hboneAlpn, secureContextOf, verifyPeer } from '../tls/index.ts';
import type { Authority } from './authority.ts';
import { formatAuthority } from './authority.ts';
import { HboneError } from './errors.ts';
import type { HeaderField } from './fields.ts';
import { fieldsIn } from './fields.ts';
import { defaultLimits } from './limits.ts';

export interface TunnelOptions {
  readonly authority: Authority;
  readonly headers: readonly HeaderField[];
  readonly timeoutMs: number;
}

/** An open tunnel and what the other side said of itself. */
export interface Tunnel {
  readonly stream: Http2Stream;
  readonly headers: ReadonlyMap<string, string>;
}

/** The other side's answer was no: 400, 401, 503 … The session goes on. */
export class TunnelRefused extends HboneError {
  readonly status: number;

  constructor(status: number) {
    super('hbone/refused', `the other side refused the tunnel with status ${status}`);
    this.status = status;
  }
}

interface Asked {
  readonly stream: Http2Stream;
  readonly settle: (outcome: Tunnel | Http2Error) => void;
}

/** The client's end of one session; it may carry tunnels to any authority behind the peer. */
export class ClientSession {
  readonly peer: SpiffeIdentity;
  readonly session: Session;
  readonly keyExchange: string;
  readonly #asked = new Map<number, Asked>();

  constructor(
    socket: TLSSocket,
    peer: SpiffeIdentity,
    limits: SessionLimits,
    onClosed: () => void,
  ) {
    this.peer = peer;
    this.keyExchange = keyExchangeOf(socket);
    const handlers: SessionHandlers = {
      headers: (id, { fields }) => this.#answered(id, fields),
      streamClosed: (id, error) => {
        this.#asked
          .get(id)
          ?.settle(
            error ?? new Http2Error('http2/reset', 'the tunnel was closed before it opened'),
          );
      },
      goaway: () => undefined,
      closed: (error) => {
        for (const asked of [...this.#asked.values()]) {
          asked.settle(error ?? new Http2Error('http2/connection-lost', 'the session was closed'));
        }
        onClosed();
      },
    };
    this.session = new Session(socketTransport(socket), {
      role: 'client',
      carries: 'tunnels',
      limits,
      handlers,
    });
    this.session.start();
  }

  openTunnel({ authority, headers, timeoutMs }: TunnelOptions): Promise<Tunnel> {
    return new Promise((resolve, reject) => {
      const fields: FieldList = [
        ...[':method', 'CONNECT', ':authority', formatAuthority(authority)],
        ...headers.flat(),
      ];
      const stream = this.session.request(fields);
      const deadline = new Deadline(() => {
        settle(new HboneError('hbone/timeout', `no answer to CONNECT in ${timeoutMs} ms`));
      }, timeoutMs);
      const settle = (outcome: Tunnel | Http2Error): void => {
        if (!this.#asked.delete(stream.id)) return;
        deadline.clear();
        if (!(outcome instanceof Http2Error)) {
          resolve(outcome);
          return;
        }
        stream.abort(outcome);
        reject(outcome);
      };
      this.#asked.set(stream.id, { stream, settle });
    });
  }

  #answered(id: number, fields: FieldList): void {
    const asked = this.#asked.get(id);
    if (asked === undefined) {
      this.session.fail(errorCode.protocol, 'a second header block on a CONNECT stream');
      return;
    }
    const headers = fieldsIn(fields);
    const status = Number(headers.get(':status'));
    if (status >= 100 && status < 200) return;
    asked.settle(status === 200 ? { stream: asked.stream, headers } : new TunnelRefused(status));
  }
}

export interface ConnectSessionOptions {
  /** A raw socket, connected or connecting. */
  readonly socket: Socket;
  readonly certificate: WorkloadCertificate;
  readonly expected: ExpectedPeer;
  readonly limits?: SessionLimits;
  readonly handshakeTimeoutMs?: number;
  readonly onClosed?: () => void;
}

const defaultHandshakeTimeoutMs = 5_000;

/** Shakes hands over a raw socket and verifies who answered. Rejects with an error whose code says what failed. */
export function connectSession(options: ConnectSessionOptions): Promise<ClientSession> {
  const { socket, certificate, expected, limits = defaultLimits } = options;
  const timeoutMs = options.handshakeTimeoutMs ?? defaultHandshakeTimeoutMs;
  return new Promise((resolve, reject) => {
    const secured = tlsConnect({
      socket,
      secureContext: secureContextOf(certificate),
      ALPNProtocols: [...hboneAlpn],
      // The peer is judged by its SPIFFE identity below; names mean nothing in HBONE, and none is sent.
      checkServerIdentity: () => undefined,
    });
    const failed = (code: string, message: string, cause?: unknown): void => {
      deadline.clear();
      secured.destroy();
      socket.destroy();
      reject(new HboneError(code, message, { cause }));
    };
    const onError = (error: NodeJS.ErrnoException): void => {
      const refused = error.syscall === 'connect';
      failed(refused ? 'hbone/connect-failed' : 'hbone/tls-failed', error.message, error);
    };
    const onClose = (): void =>
      failed('hbone/tls-failed', 'the connection was closed during the handshake');
    const deadline = new Deadline(
      () => failed('hbone/timeout', `no TLS handshake in ${timeoutMs} ms`),
      timeoutMs,
    );
    socket.on('error', onError);
    secured.on('error', onError);
    secured.once('close', onClose);
    secured.once('secureConnect', () => {
      deadline.clear();
      secured.off('close', onClose);
      secured.off('error', onError);
      const peer = verifyPeer(secured, 'server', expected);
      if (!peer.ok) {
        failed(peer.error.code, peer.error.message);
        secured.on('error', () => undefined);
        return;
      }
      resolve(
        new ClientSession(secured, peer.value, limits, options.onClosed ?? (() => undefined)),
      );
    });
  });
}

function keyExchangeOf(socket: TLSSocket): string {
  const info = socket.getEphemeralKeyInfo() as { name?: string; type?: string } | null;
  return info?.name ?? info?.type ?? 'unknown';
}

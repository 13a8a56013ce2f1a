import type { Socket } from 'node:net';
import type { Server as TlsServer, TLSSocket } from 'node:tls';
import { createServer as createTlsServer } from 'node:tls';
import type { SpiffeIdentity, TrustDomain } from '@ambit/api';
import type { FieldList, Http2Stream, SessionHandlers, SessionLimits } from '../http2/index.ts';
import { Session, socketTransport } from '../http2/index.ts';
import type { WorkloadCertificate } from '../tls/index.ts';
import { resetOnClose } from '../native/index.ts';
import { hboneAlpn, secureContextOptions, verifyPeer } from '../tls/index.ts';
import type { HeaderField } from './fields.ts';
import { fieldsIn } from './fields.ts';
import { defaultLimits } from './limits.ts';

/** A CONNECT of a verified peer, waiting for an answer. */
export interface TunnelRequest {
  readonly peer: SpiffeIdentity;
  readonly socket: TLSSocket;
  readonly authority: string;
  readonly headers: ReadonlyMap<string, string>;
  /** True once the stream is over, for whatever reason. */
  isClosed(): boolean;
  accept(headers: readonly HeaderField[]): Http2Stream | undefined;
  refuse(status: number): void;
}

export interface HboneServerOptions<C> {
  readonly trustDomains: () => ReadonlySet<TrustDomain>;
  readonly onTunnel: (request: TunnelRequest, context: C) => void;
  /** A peer that did not get as far as a request. */
  readonly onRejected: (code: string, message: string, context: C) => void;
  readonly limits?: SessionLimits;
  readonly handshakeTimeoutMs?: number;
}

/** Takes accepted sockets and serves HBONE on them, each with the certificate of the workload it is for. */
export interface HboneServer<C> {
  accept(socket: Socket, certificate: WorkloadCertificate, context: C): void;
  /** Ends sessions whose context matches: at once, or when their streams are over. */
  end(which: (context: C) => boolean, mode: 'drain' | 'destroy'): void;
  readonly sessions: number;
  /** Connections of sessions, those among them whose last bytes are still to be read. */
  readonly connections: number;
}

const defaultHandshakeTimeoutMs = 5_000;

export function createHboneServer<C>(options: HboneServerOptions<C>): HboneServer<C> {
  return new Server(options);
}

/** A session and who is at its other end. */
interface Served {
  readonly session: Session;
  readonly socket: TLSSocket;
  readonly peer: SpiffeIdentity;
}

class Server<C> implements HboneServer<C> {
  readonly #options: HboneServerOptions<C>;
  readonly #acceptors = new WeakMap<WorkloadCertificate, TlsServer>();
  readonly #contexts = new WeakMap<Socket, C>();
  readonly #sessions = new Map<Session, C>();
  readonly #sockets = new Set<TLSSocket>();

  constructor(options: HboneServerOptions<C>) {
    this.#options = options;
  }

  get sessions(): number {
    return this.#sessions.size;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  accept(socket: Socket, certificate: WorkloadCertificate, context: C): void {
    this.#contexts.set(socket, context);
    socket.on('error', () => socket.destroy());
    this.#acceptorOf(certificate).emit('connection', socket);
  }

  end(which: (context: C) => boolean, mode: 'drain' | 'destroy'): void {
    for (const [session, context] of [...this.#sessions]) {
      if (!which(context)) continue;
      if (mode === 'drain') session.drain();
      else session.destroy();
    }
  }

  #acceptorOf(certificate: WorkloadCertificate): TlsServer {
    let acceptor = this.#acceptors.get(certificate);
    if (acceptor !== undefined) return acceptor;
    acceptor = createTlsServer({
      ...secureContextOptions(certificate),
      ALPNProtocols: [...hboneAlpn],
      requestCert: true,
      // Node would end the connection without a word on why; `verifyPeer` refuses such a chain and says it.
      rejectUnauthorized: false,
      handshakeTimeout: this.#options.handshakeTimeoutMs ?? defaultHandshakeTimeoutMs,
    });
    acceptor.on('secureConnection', (socket) => this.#secured(socket));
    acceptor.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
      const context = this.#contextOf(socket);
      if (context !== undefined)
        this.#options.onRejected('tls/handshake-failed', error.message, context);
      socket.destroy();
    });
    this.#acceptors.set(certificate, acceptor);
    return acceptor;
  }

  #contextOf(socket: TLSSocket): C | undefined {
    const raw = rawSocketOf(socket);
    return raw === undefined ? undefined : this.#contexts.get(raw);
  }

  #secured(socket: TLSSocket): void {
    const context = this.#contextOf(socket);
    if (context === undefined) {
      socket.destroy();
      return;
    }
    const trustDomains = this.#options.trustDomains();
    const peer = verifyPeer(socket, 'client', { kind: 'trust-domains', trustDomains });
    if (!peer.ok) {
      this.#options.onRejected(peer.error.code, peer.error.message, context);
      socket.on('error', () => undefined);
      const raw = rawSocketOf(socket);
      if (raw !== undefined) resetOnClose(raw);
      socket.destroy();
      return;
    }
    const handlers: SessionHandlers = {
      headers: (id, { fields }) =>
        this.#requested({ session, socket, peer: peer.value }, id, fields, context),
      streamClosed: () => undefined,
      goaway: () => undefined,
      closed: (error) => {
        this.#sessions.delete(session);
        if (error?.code === 'http2/protocol')
          this.#options.onRejected(error.code, error.message, context);
      },
    };
    const session = new Session(socketTransport(socket), {
      role: 'server',
      carries: 'tunnels',
      limits: this.#options.limits ?? defaultLimits,
      handlers,
    });
    this.#sessions.set(session, context);
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    session.start();
  }

  #requested({ session, socket, peer }: Served, id: number, fields: FieldList, context: C): void {
    const headers = fieldsIn(fields);
    const pseudo = fields.filter((text, at) => at % 2 === 0 && text.startsWith(':'));
    const authority = headers.get(':authority');
    const connects =
      headers.get(':method') === 'CONNECT' && pseudo.length === 2 && authority !== undefined;
    if (!connects) {
      session.refuse(id, [':status', headers.get(':method') === 'CONNECT' ? '400' : '405']);
      return;
    }
    const stream = session.streams.get(id);
    this.#options.onTunnel(
      {
        peer,
        socket,
        authority,
        headers,
        isClosed: () => stream === undefined || stream.closed,
        accept: (answer) => session.respond(id, [':status', '200', ...answer.flat()]),
        refuse: (status) => session.refuse(id, [':status', String(status)]),
      },
      context,
    );
  }
}

/** The socket under a TLS socket; an internal of Node, held by the tests of this file. */
function rawSocketOf(socket: TLSSocket): Socket | undefined {
  return (socket as unknown as { _parent?: Socket })._parent;
}

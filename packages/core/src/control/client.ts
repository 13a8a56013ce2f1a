import { readFile } from 'node:fs/promises';
import type {
  DecodedUpdate,
  ProxyFrame,
  ReportedProblem,
  ResourceType,
  SpiffeIdentity,
} from '@ambit/api';
import { controlPath, decodeControllerFrame, frameSchema, maxFrameBytes } from '@ambit/api';
import { WebSocket } from 'ws';
import type { HostPort } from '../config/env.ts';
import { MeshError, causeChain } from '../errors.ts';
import { createBackoff } from '../lifecycle/backoff.ts';
import type { Logger } from '../observe/logger.ts';
import { ReportSender } from './report-sender.ts';

export interface ControlClientOptions {
  readonly address: HostPort;
  /** File with the proxy's token; read anew for each connection, as it is rotated. */
  readonly tokenFile: string;
  /** File with the PEM of the roots that sign the controller's certificate. */
  readonly rootsFile: string;
  readonly program: 'ztunnel' | 'waypoint';
  readonly node: string;
  readonly instance: string;
  readonly logger: Logger;
  /** What is held already, so that only the difference is sent. */
  readonly held: () => readonly {
    readonly type: ResourceType;
    readonly versions: readonly (readonly [string, string])[];
  }[];
  /** Takes an update. What it throws is told to the controller, and the connection stays. */
  readonly onUpdate: (update: DecodedUpdate) => void;
  /** `unreachable` after each try that failed. */
  readonly onConnection?: (state: 'connected' | 'lost' | 'unreachable') => void;
}

export interface SignedCertificate {
  readonly chain: readonly string[];
  readonly roots: readonly string[];
}

export interface ControlClient {
  readonly connected: boolean;
  /** Asks the controller to sign; rejects when it refuses, is away, or does not answer in time. */
  requestCertificate(identity: SpiffeIdentity, csr: string): Promise<SignedCertificate>;
  /** Tells the controller every problem that there is with resources, for their owners; now, or once it is back. */
  report(problems: readonly ReportedProblem[]): void;
  close(): void;
}

const handshakeTimeoutMs = 5_000;
/** The controller pings; silence for this long means that it, or the way to it, is gone. */
const silenceMs = 45_000;
const certificateTimeoutMs = 10_000;
const backoffMinMs = 100;
const backoffMaxMs = 15_000;

interface Waiting {
  readonly give: (certificate: SignedCertificate) => void;
  readonly fail: (error: MeshError) => void;
}

/** Keeps a connection to the controller for as long as the program lives; the last good state stays when it is lost. */
export function startControlClient(options: ControlClientOptions): ControlClient {
  const client = new Client(options);
  client.connect();
  return client;
}

class Client implements ControlClient {
  readonly #options: ControlClientOptions;
  readonly #backoff = createBackoff(backoffMinMs, backoffMaxMs);
  readonly #waiting = new Map<number, Waiting>();
  readonly #reports = new ReportSender((frame) => this.#send(frame));
  #socket: WebSocket | undefined;
  #retry: NodeJS.Timeout | undefined;
  #silence: NodeJS.Timeout | undefined;
  #nextId = 1;
  #open = false;
  #closed = false;

  constructor(options: ControlClientOptions) {
    this.#options = options;
  }

  get connected(): boolean {
    return this.#open;
  }

  connect(): void {
    this.#dial().catch((error: unknown) => this.#lost(causeChain(error)));
  }

  async requestCertificate(identity: SpiffeIdentity, csr: string): Promise<SignedCertificate> {
    if (!this.#open)
      throw new MeshError('control/disconnected', 'the controller cannot be reached');
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        waiting.fail(
          new MeshError(
            'control/timeout',
            `no answer to a certificate request in ${certificateTimeoutMs} ms`,
          ),
        );
      }, certificateTimeoutMs);
      const settle = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(id);
      };
      const waiting: Waiting = {
        give: (certificate) => {
          settle();
          resolve(certificate);
        },
        fail: (error) => {
          settle();
          reject(error);
        },
      };
      this.#waiting.set(id, waiting);
      this.#send({ kind: 'certificate-request', id, identity: identity.uri, csr });
    });
  }

  report(problems: readonly ReportedProblem[]): void {
    this.#reports.set(problems);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#drop('the proxy is stopping');
    this.#socket?.terminate();
  }

  async #dial(): Promise<void> {
    const { address, tokenFile, rootsFile, logger } = this.#options;
    const [token, roots] = await Promise.all([
      readFile(tokenFile, 'utf8'),
      readFile(rootsFile, 'utf8'),
    ]);
    if (this.#closed) return;
    const host = address.host.includes(':') ? `[${address.host}]` : address.host;
    const socket = new WebSocket(`wss://${host}:${address.port}${controlPath}`, {
      ca: roots,
      minVersion: 'TLSv1.3',
      headers: { authorization: `Bearer ${token.trim()}` },
      handshakeTimeout: handshakeTimeoutMs,
      maxPayload: maxFrameBytes,
      perMessageDeflate: false,
      followRedirects: false,
    });
    this.#socket = socket;
    let why = 'closed by the controller';
    socket.on('error', (error) => (why = causeChain(error)));
    socket.on('open', () => {
      this.#open = true;
      this.#backoff.reset();
      logger.info({ controller: `${address.host}:${address.port}` }, 'connected to the controller');
      this.#heard();
      this.#greet();
      this.#reports.connected();
      this.#options.onConnection?.('connected');
    });
    socket.on('ping', () => this.#heard());
    socket.on('message', (data: Buffer, binary) => {
      this.#heard();
      if (!binary) this.#receive(data.toString('utf8'));
    });
    socket.on('close', () => this.#lost(why));
  }

  #greet(): void {
    const { program, node, instance, held } = this.#options;
    this.#send({ kind: 'hello', schema: frameSchema, program, node, instance, held: held() });
  }

  #receive(text: string): void {
    const frame = decodeControllerFrame(text);
    if (!frame.ok) {
      this.#options.logger.error(
        { reason: frame.error.message },
        'frame from the controller cannot be read',
      );
      // Whatever it was, the state may now lack it: a new connection gets what is missing.
      this.#socket?.terminate();
      return;
    }
    switch (frame.value.kind) {
      case 'update':
        this.#update(frame.value);
        break;
      case 'certificate':
        this.#waiting.get(frame.value.id)?.give(frame.value);
        break;
      case 'certificate-refused': {
        const { id, code, message } = frame.value;
        this.#waiting.get(id)?.fail(new MeshError(`control/certificate-${code}`, message));
        break;
      }
    }
  }

  #update(update: DecodedUpdate): void {
    const rejected = update.undecodable.map(({ type, name, reason }) => ({ type, name, reason }));
    for (const { type, name, reason } of rejected) {
      this.#options.logger.error(
        { type, name, reason },
        'resource from the controller cannot be read',
      );
    }
    this.#options.onUpdate(update);
    const { nonce } = update;
    this.#send(rejected.length === 0 ? { kind: 'ack', nonce } : { kind: 'nack', nonce, rejected });
  }

  #send(frame: ProxyFrame): void {
    if (this.#open) this.#socket?.send(JSON.stringify(frame), () => undefined);
  }

  #heard(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#socket?.terminate(), silenceMs);
    this.#silence.unref();
  }

  #lost(why: string): void {
    const was = this.#open;
    this.#drop(why);
    if (this.#closed) return;
    const retryMs = this.#backoff.nextMs();
    this.#options.logger.warn(
      { reason: why, retryMs: Math.round(retryMs) },
      'no connection to the controller',
    );
    this.#options.onConnection?.(was ? 'lost' : 'unreachable');
    this.#retry = setTimeout(() => this.connect(), retryMs);
  }

  #drop(why: string): void {
    this.#open = false;
    this.#reports.lost();
    clearTimeout(this.#silence);
    for (const waiting of [...this.#waiting.values()]) {
      waiting.fail(
        new MeshError('control/disconnected', `the connection to the controller was lost: ${why}`),
      );
    }
  }
}

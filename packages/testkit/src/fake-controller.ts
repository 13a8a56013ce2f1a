import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type {
  CertificateRefused,
  CertificateRequest,
  CertificateResponse,
  Hello,
  Nack,
  ProxyFrame,
  Removal,
  Report,
  ResourceType,
  SpiffeId,
  Upsert,
} from '@ambit/api';
import { controlPath } from '@ambit/api';
import type { WebSocket } from 'ws';
import { WebSocketServer } from 'ws';
import type { TestCa } from './test-ca.ts';

type Signed = Omit<CertificateResponse, 'kind' | 'id'> | Omit<CertificateRefused, 'kind' | 'id'>;

export interface FakeControllerOptions {
  readonly ca: TestCa;
  /** Answers certificate requests; signs whatever is asked for by default. May wait or reject. */
  readonly sign?: (request: CertificateRequest) => Promise<Signed>;
}

/** A control channel over real TLS on loopback that sends what a test says and keeps what it hears. */
export interface FakeController {
  readonly port: number;
  /** Files as a proxy is given them. */
  readonly tokenFile: string;
  readonly rootsFile: string;
  readonly hellos: readonly Hello[];
  readonly tokens: readonly string[];
  readonly nacks: readonly Nack[];
  readonly reports: readonly Report[];
  readonly requested: readonly SpiffeId[];
  readonly connections: number;
  /** Sets the state and sends the difference; resolves when every proxy has answered, whether ack or nack. */
  push(upserts: readonly Upsert[], removals?: readonly Removal[]): Promise<void>;
  /** Sends text as it stands to every proxy. */
  sendRaw(text: string): void;
  /** Resolves once so many proxies are connected and have answered their first update. */
  settled(proxies: number): Promise<void>;
  /** Cuts every connection. */
  cut(): void;
  /** Goes away: the port is closed until `comeBack`. */
  goAway(): Promise<void>;
  comeBack(): Promise<void>;
  close(): Promise<void>;
}

export async function startFakeController(options: FakeControllerOptions): Promise<FakeController> {
  const controller = new Controller(options);
  await controller.start();
  return controller;
}

class Controller implements FakeController {
  port = 0;
  readonly directory = mkdtempSync(join(tmpdir(), 'ambit-controller-'));
  readonly tokenFile = join(this.directory, 'token');
  readonly rootsFile = join(this.directory, 'roots.pem');
  readonly hellos: Hello[] = [];
  readonly tokens: string[] = [];
  readonly nacks: Nack[] = [];
  readonly reports: Report[] = [];
  readonly requested: SpiffeId[] = [];
  readonly #options: FakeControllerOptions;
  readonly #state = new Map<string, Upsert>();
  readonly #sockets = new Set<WebSocket>();
  readonly #answers = new Map<number, () => void>();
  #nonce = 0;
  #answered = 0;
  #stop: () => Promise<void> = () => Promise.resolve();

  constructor(options: FakeControllerOptions) {
    this.#options = options;
    writeFileSync(this.tokenFile, 'a-token\n');
    writeFileSync(this.rootsFile, options.ca.rootPem);
  }

  get connections(): number {
    return this.#sockets.size;
  }

  async start(): Promise<void> {
    const { chain, privateKey } = await this.#options.ca.issue('spiffe://unused/', {
      uris: [],
      names: [
        { type: 'ip', value: '127.0.0.1' },
        { type: 'dns', value: 'localhost' },
      ],
    });
    const server = createServer({ cert: chain.join(''), key: privateKey, minVersion: 'TLSv1.3' });
    const channel = new WebSocketServer({ server, path: controlPath });
    channel.on('connection', (socket, request) => this.#accept(socket, request));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.port, '127.0.0.1', resolve);
    });
    this.port = (server.address() as AddressInfo).port;
    this.#stop = async () => {
      this.cut();
      channel.close();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    };
  }

  async push(upserts: readonly Upsert[], removals: readonly Removal[] = []): Promise<void> {
    for (const upsert of upserts) this.#state.set(`${upsert.type} ${upsert.name}`, upsert);
    for (const { type, name } of removals) this.#state.delete(`${type} ${name}`);
    await Promise.all([...this.#sockets].map((socket) => this.#update(socket, upserts, removals)));
  }

  sendRaw(text: string): void {
    for (const socket of this.#sockets) socket.send(text);
  }

  async settled(proxies: number): Promise<void> {
    while (this.#sockets.size < proxies || this.#answered < proxies) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  cut(): void {
    for (const socket of this.#sockets) socket.terminate();
  }

  async goAway(): Promise<void> {
    await this.#stop();
  }

  async comeBack(): Promise<void> {
    await this.start();
  }

  async close(): Promise<void> {
    await this.#stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  #accept(socket: WebSocket, request: IncomingMessage): void {
    this.tokens.push((request.headers.authorization ?? '').replace(/^Bearer /, ''));
    this.#sockets.add(socket);
    socket.on('close', () => {
      this.#sockets.delete(socket);
      for (const answered of [...this.#answers.values()]) answered();
    });
    socket.on('error', () => socket.terminate());
    socket.on('message', (data: Buffer) => this.#heard(socket, data.toString('utf8')));
  }

  #heard(socket: WebSocket, text: string): void {
    const frame = JSON.parse(text) as ProxyFrame;
    switch (frame.kind) {
      case 'hello':
        this.hellos.push(frame);
        void this.#greet(socket, frame);
        break;
      case 'nack':
        this.nacks.push(frame);
        this.#answers.get(frame.nonce)?.();
        break;
      case 'ack':
        this.#answers.get(frame.nonce)?.();
        break;
      case 'report':
        this.reports.push(frame);
        break;
      case 'certificate-request':
        this.requested.push(frame.identity);
        void this.#signed(socket, frame);
        break;
    }
  }

  /** Sends what a proxy does not hold yet, and takes away what it holds too much. */
  async #greet(socket: WebSocket, { held }: Hello): Promise<void> {
    const has = new Map<string, { type: ResourceType; name: string; version: string }>(
      held.flatMap(({ type, versions }) =>
        versions.map(([name, version]) => [`${type} ${name}`, { type, name, version }] as const),
      ),
    );
    const upserts = [...this.#state].filter(
      ([key, { version }]) => has.get(key)?.version !== version,
    );
    const removals = [...has].filter(([key]) => !this.#state.has(key));
    await this.#update(
      socket,
      upserts.map(([, upsert]) => upsert),
      removals.map(([, { type, name }]) => ({ type, name })),
    );
    this.#answered += 1;
  }

  async #update(
    socket: WebSocket,
    upserts: readonly Upsert[],
    removals: readonly Removal[],
  ): Promise<void> {
    this.#nonce += 1;
    const nonce = this.#nonce;
    await new Promise<void>((resolve) => {
      this.#answers.set(nonce, () => {
        this.#answers.delete(nonce);
        resolve();
      });
      socket.send(JSON.stringify({ kind: 'update', nonce, upserts, removals, complete: true }));
    });
  }

  async #signed(socket: WebSocket, request: CertificateRequest): Promise<void> {
    const answer = await (this.#options.sign ?? this.#sign)(request);
    const kind = 'chain' in answer ? 'certificate' : 'certificate-refused';
    socket.send(JSON.stringify({ kind, id: request.id, ...answer }));
  }

  readonly #sign = async ({ identity, csr }: CertificateRequest): Promise<Signed> => ({
    chain: await this.#options.ca.sign(identity, csr),
    roots: [this.#options.ca.rootPem],
  });
}

import { webcrypto } from 'node:crypto';
import type { AddressInfo } from 'node:net';

import type { ControllerFrame, Hello, ProxyFrame, SnapshotUpdate } from '@ambit/api';
import { controlPath, frameSchema, resourceTypes } from '@ambit/api';
import { WebSocket } from 'ws';

import { x509 } from '../src/ca/x509.ts';

/** A proxy of a test: it takes what it is sent, answers it, and keeps the frames. */
export class TestProxy {
  readonly frames: ControllerFrame[] = [];
  readonly held = new Map<string, unknown>();
  readonly versions = new Map<string, string>();
  complete = false;
  closed: string | undefined;
  /** Names to refuse, as `<type>/<name>`. */
  readonly refuses = new Set<string>();
  answers = true;
  readonly #socket: WebSocket;
  #requests = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data: Buffer) =>
      this.#take(JSON.parse(data.toString()) as ControllerFrame),
    );
    socket.on('close', (code, reason) => (this.closed = `${code} ${reason.toString()}`));
    socket.on('error', () => undefined);
  }

  /** Rejects with the HTTP status when it is not admitted. */
  static async connect(address: AddressInfo, token: string, ca: string): Promise<TestProxy> {
    // `ws` hands the name on to `tls.connect`, though its types do not say so.
    const options = {
      headers: { authorization: `Bearer ${token}` },
      ca,
      servername: 'ambit-controller.istio-system.svc',
    };
    const socket = new WebSocket(`wss://127.0.0.1:${address.port}${controlPath}`, options);
    const proxy = new TestProxy(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('open', () => resolve());
      socket.once('unexpected-response', (_request, response) => {
        reject(new Error(`HTTP ${response.statusCode ?? 0}`));
        socket.terminate();
      });
      socket.once('error', reject);
    });
    return proxy;
  }

  send(frame: ProxyFrame): void {
    this.#socket.send(JSON.stringify(frame));
  }

  hello(changes: Partial<Hello> = {}): void {
    const held = resourceTypes.map((type) => ({
      type,
      versions: [...this.versions]
        .filter(([key]) => key.startsWith(`${type} `))
        .map(([key, version]) => [key.slice(type.length + 1), version] as const),
    }));
    this.send({
      kind: 'hello',
      schema: frameSchema,
      program: 'ztunnel',
      node: 'node-a',
      instance: 'ztunnel-1',
      held,
      ...changes,
    });
  }

  get updates(): readonly SnapshotUpdate[] {
    return this.frames.filter((frame) => frame.kind === 'update');
  }

  async certificate(identity: string, csr: string): Promise<ControllerFrame> {
    this.#requests += 1;
    const id = this.#requests;
    this.send({ kind: 'certificate-request', id, identity: identity as never, csr });
    for (let tries = 0; tries < 1000; tries += 1) {
      const answer = this.frames.find((frame) => frame.kind !== 'update' && frame.id === id);
      if (answer !== undefined) return answer;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error('no answer to the certificate request');
  }

  close(): void {
    this.#socket.terminate();
  }

  #take(frame: ControllerFrame): void {
    this.frames.push(frame);
    if (frame.kind !== 'update') return;
    const rejected: { type: string; name: string; reason: string }[] = [];
    for (const upsert of frame.upserts) {
      if (this.refuses.has(`${upsert.type}/${upsert.name}`)) {
        rejected.push({ type: upsert.type, name: upsert.name, reason: 'refused by the test' });
        continue;
      }
      this.held.set(`${upsert.type} ${upsert.name}`, upsert.resource);
      this.versions.set(`${upsert.type} ${upsert.name}`, upsert.version);
    }
    for (const { type, name } of frame.removals) {
      this.held.delete(`${type} ${name}`);
      this.versions.delete(`${type} ${name}`);
    }
    this.complete ||= frame.complete;
    if (!this.answers) return;
    if (rejected.length > 0) this.send({ kind: 'nack', nonce: frame.nonce, rejected });
    else this.send({ kind: 'ack', nonce: frame.nonce });
  }
}

/** A request of an ordinary proxy: a new P-256 key and the identity as URI name. */
export async function newCsr(uri: string): Promise<string> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: algorithm,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'url', value: uri }], true)],
  });
  return csr.toString('pem');
}

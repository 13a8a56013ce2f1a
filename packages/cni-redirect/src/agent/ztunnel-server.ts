import { chmodSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import type { AgentFrame, EnrolledPod } from '@ambit/api';
import { decodeZtunnelFrame, maxEnrolmentFrameBytes } from '@ambit/api';
import type { Logger } from '@ambit/core';
import { MeshError } from '@ambit/core';

const ackTimeoutMs = 5_000;

type Message = AgentFrame extends infer F ? (F extends AgentFrame ? Omit<F, 'id'> : never) : never;

interface Waiting {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** The agent's side of enrolment: several ztunnels may be connected while one takes over from another. */
export interface ZtunnelServer {
  readonly connected: boolean;
  /** Asks the newest ztunnel to listen in a pod; resolves once it does. */
  add(pod: EnrolledPod): Promise<void>;
  /** Tells every ztunnel that a pod left. */
  remove(uid: string, why: 'released' | 'deleted'): Promise<void>;
  close(): Promise<void>;
}

export interface ZtunnelServerOptions {
  readonly path: string;
  /** The pods that a ztunnel is told of when it connects. */
  readonly pods: () => readonly EnrolledPod[];
  readonly onConnected: () => void;
  readonly logger: Logger;
}

export async function startZtunnelServer(options: ZtunnelServerOptions): Promise<ZtunnelServer> {
  const server = new Zds(options);
  await server.listen();
  return server;
}

class Zds implements ZtunnelServer {
  readonly #options: ZtunnelServerOptions;
  readonly #server: Server;
  readonly #peers: Peer[] = [];

  constructor(options: ZtunnelServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.on('error', (error) =>
      options.logger.error({ err: error }, 'the socket for ztunnel failed'),
    );
  }

  get connected(): boolean {
    return this.#peers.length > 0;
  }

  async listen(): Promise<void> {
    const { path } = this.#options;
    await mkdir(dirname(path), { recursive: true });
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(path, resolve);
    });
    chmodSync(path, 0o600);
  }

  async add(pod: EnrolledPod): Promise<void> {
    const newest = this.#peers.at(-1);
    if (newest === undefined) {
      throw new MeshError(
        'agent/no-ztunnel',
        'no ztunnel is connected on this node; the pod waits until one is',
      );
    }
    await newest.send({ kind: 'pod-added', pod });
  }

  async remove(uid: string, why: 'released' | 'deleted'): Promise<void> {
    await Promise.all(this.#peers.map((peer) => peer.send({ kind: 'pod-removed', uid, why })));
  }

  async close(): Promise<void> {
    for (const peer of this.#peers) peer.socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(socket: Socket): void {
    const { logger } = this.#options;
    const peer: Peer = new Peer(socket, (instance) => void this.#greeted(peer, instance));
    socket.on('close', () => {
      const at = this.#peers.indexOf(peer);
      if (at >= 0) this.#peers.splice(at, 1);
      logger.warn({ ztunnel: peer.instance }, 'a ztunnel disconnected; pods keep their rules');
    });
  }

  async #greeted(peer: Peer, instance: string): Promise<void> {
    const { logger, pods, onConnected } = this.#options;
    logger.info({ ztunnel: instance }, 'a ztunnel connected');
    for (const pod of pods()) {
      try {
        await peer.send({ kind: 'pod-added', pod });
      } catch (error) {
        logger.error(
          { err: error, pod: `${pod.namespace}/${pod.name}` },
          'ztunnel could not take a pod',
        );
      }
    }
    try {
      await peer.send({ kind: 'pods-complete' });
      if (peer.socket.destroyed) return;
      this.#peers.push(peer);
      onConnected();
    } catch (error) {
      logger.error({ err: error }, 'ztunnel did not take the pods of this node');
      peer.socket.destroy();
    }
  }
}

/** One connected ztunnel; every message waits for its answer. */
class Peer {
  readonly socket: Socket;
  instance = '';
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #text = '';

  constructor(socket: Socket, onHello: (instance: string) => void) {
    this.socket = socket;
    socket.setEncoding('utf8');
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      for (const { reject, timer } of this.#waiting.values()) {
        clearTimeout(timer);
        reject(new MeshError('agent/ztunnel-gone', 'ztunnel disconnected'));
      }
    });
    socket.on('data', (chunk: string) => {
      this.#text += chunk;
      for (let end = this.#text.indexOf('\n'); end >= 0; end = this.#text.indexOf('\n')) {
        this.#line(this.#text.slice(0, end), onHello);
        this.#text = this.#text.slice(end + 1);
      }
      if (this.#text.length > maxEnrolmentFrameBytes) socket.destroy();
    });
  }

  send(message: Message): Promise<void> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(
          new MeshError('agent/ztunnel-silent', `ztunnel did not answer in ${ackTimeoutMs} ms`),
        );
      }, ackTimeoutMs);
      this.#waiting.set(id, { resolve, reject, timer });
      this.socket.write(`${JSON.stringify({ ...message, id })}\n`);
    });
  }

  #line(line: string, onHello: (instance: string) => void): void {
    const frame = decodeZtunnelFrame(line);
    if (!frame.ok) {
      this.socket.destroy();
      return;
    }
    if (frame.value.kind === 'hello') {
      this.instance = frame.value.instance;
      onHello(this.instance);
      return;
    }
    const waiting = this.#waiting.get(frame.value.id);
    if (waiting === undefined) return;
    this.#waiting.delete(frame.value.id);
    clearTimeout(waiting.timer);
    if (frame.value.error === undefined) waiting.resolve();
    else waiting.reject(new MeshError('agent/ztunnel-refused', frame.value.error));
  }
}

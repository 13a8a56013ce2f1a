import { chmodSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import type { AgentFrame, EnrolledPod } from '@ambit/api';
import { decodeZtunnelFrame, enrolmentSchema, maxEnrolmentFrameBytes } from '@ambit/api';
import type { Logger } from '@ambit/core';
import { MeshError, causeChain } from '@ambit/core';

const ackTimeoutMs = 5_000;
const helloTimeoutMs = 5_000;

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
  /** A ztunnel that connected could not take one of the pods. */
  readonly onRefused: (pod: EnrolledPod) => void;
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
  /** Oldest first: the last is the one that takes new pods. */
  readonly #peers: Peer[] = [];
  readonly #open = new Set<Peer>();

  constructor(options: ZtunnelServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.on('error', (error) =>
      options.logger.error({ err: error }, 'the socket for ztunnel failed'),
    );
  }

  get connected(): boolean {
    return this.#peers.some(({ complete }) => complete);
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
    let failure: unknown = new MeshError(
      'agent/no-ztunnel',
      'no ztunnel is connected on this node; the pod waits until one is',
    );
    for (const peer of this.#peers.toReversed()) {
      try {
        await peer.send({ kind: 'pod-added', pod });
        return;
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  async remove(uid: string, why: 'released' | 'deleted'): Promise<void> {
    const told = this.#peers.map(async (peer) => {
      try {
        await peer.send({ kind: 'pod-removed', uid, why });
      } catch (error) {
        // It comes back with a connection of its own, and is then told only of the pods that are there.
        this.#options.logger.warn(
          { ztunnel: peer.instance, reason: causeChain(error) },
          'a ztunnel did not let a pod go',
        );
        peer.socket.destroy();
      }
    });
    await Promise.all(told);
  }

  async close(): Promise<void> {
    for (const peer of this.#open) peer.socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(socket: Socket): void {
    const { logger } = this.#options;
    const peer: Peer = new Peer(socket, () => void this.#greeted(peer));
    this.#open.add(peer);
    socket.on('close', () => {
      this.#open.delete(peer);
      const at = this.#peers.indexOf(peer);
      if (at < 0) return;
      this.#peers.splice(at, 1);
      logger.warn({ ztunnel: peer.instance }, 'a ztunnel disconnected; pods keep their rules');
      // Pods that only the newest was told of go to the one before it.
      const newest = this.#peers.at(-1);
      if (newest !== undefined && at === this.#peers.length) void this.#tellAll(newest);
    });
  }

  async #greeted(peer: Peer): Promise<void> {
    this.#options.logger.info({ ztunnel: peer.instance }, 'a ztunnel connected');
    this.#peers.push(peer);
    await this.#tellAll(peer);
  }

  /** All frames are written at once, so that a change that comes meanwhile follows them. */
  async #tellAll(peer: Peer): Promise<void> {
    const { logger, pods, onConnected, onRefused } = this.#options;
    const refused: EnrolledPod[] = [];
    const added = pods().map(async (pod) => {
      try {
        await peer.send({ kind: 'pod-added', pod });
      } catch (error) {
        logger.error(
          { pod: `${pod.namespace}/${pod.name}`, reason: causeChain(error) },
          'ztunnel could not take a pod',
        );
        refused.push(pod);
      }
    });
    try {
      await Promise.all([...added, peer.send({ kind: 'pods-complete' })]);
      peer.complete = true;
      for (const pod of refused) onRefused(pod);
      onConnected();
    } catch (error) {
      const reason = causeChain(error);
      logger.error({ ztunnel: peer.instance, reason }, 'ztunnel did not take the pods of the node');
      peer.socket.destroy();
    }
  }
}

/** One connected ztunnel; every message waits for its answer. */
class Peer {
  readonly socket: Socket;
  instance = '';
  /** True once it was told of every pod and has said that it has them. */
  complete = false;
  readonly #waiting = new Map<number, Waiting>();
  readonly #greeting: NodeJS.Timeout;
  #nextId = 1;
  #text = '';

  constructor(socket: Socket, onHello: () => void) {
    this.socket = socket;
    socket.setEncoding('utf8');
    this.#greeting = setTimeout(() => socket.destroy(), helloTimeoutMs);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      clearTimeout(this.#greeting);
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

  #line(line: string, onHello: () => void): void {
    const frame = decodeZtunnelFrame(line);
    if (!frame.ok) {
      this.socket.destroy();
      return;
    }
    if (frame.value.kind === 'hello') {
      if (this.instance !== '' || frame.value.schema !== enrolmentSchema) {
        this.socket.destroy();
        return;
      }
      clearTimeout(this.#greeting);
      this.instance = frame.value.instance;
      onHello();
      return;
    }
    const waiting = this.#waiting.get(frame.value.id);
    if (waiting === undefined) return;
    this.#waiting.delete(frame.value.id);
    clearTimeout(waiting.timer);
    // It carries messages out one after the other: an answer to one is a sign of life for those behind it.
    for (const { timer } of this.#waiting.values()) timer.refresh();
    if (frame.value.error === undefined) waiting.resolve();
    else waiting.reject(new MeshError('agent/ztunnel-refused', frame.value.error));
  }
}

import type { Socket } from 'node:net';
import { connect } from 'node:net';
import type { AgentFrame, EnrolledPod, ZtunnelFrame } from '@ambit/api';
import { decodeAgentFrame, enrolmentSchema, maxEnrolmentFrameBytes } from '@ambit/api';
import type { Logger } from '@ambit/core';
import { causeChain, createBackoff } from '@ambit/core';

/** What the agent's messages do. A rejection is answered with its reason, and the agent decides what follows. */
export interface EnrolmentHandlers {
  add(pod: EnrolledPod): Promise<void>;
  remove(uid: string, why: 'released' | 'deleted'): Promise<void>;
  /** The agent has named all pods; others are gone. */
  complete(uids: ReadonlySet<string>): Promise<void>;
}

export interface AgentClient {
  readonly connected: boolean;
  close(): void;
}

const backoffMinMs = 50;
const backoffMaxMs = 2_000;

/** Follows the node agent for as long as the program lives. Pods stay as they are while the agent is away. */
export function startAgentClient(
  path: string,
  instance: string,
  handlers: EnrolmentHandlers,
  logger: Logger,
): AgentClient {
  const client = new Client(path, instance, handlers, logger);
  client.connect();
  return client;
}

class Client implements AgentClient {
  connected = false;
  readonly #path: string;
  readonly #instance: string;
  readonly #handlers: EnrolmentHandlers;
  readonly #logger: Logger;
  readonly #backoff = createBackoff(backoffMinMs, backoffMaxMs);
  #socket: Socket | undefined;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(path: string, instance: string, handlers: EnrolmentHandlers, logger: Logger) {
    this.#path = path;
    this.#instance = instance;
    this.#handlers = handlers;
    this.#logger = logger;
  }

  connect(): void {
    const socket = connect({ path: this.#path });
    this.#socket = socket;
    let why = 'closed by the agent';
    let seen = new Set<string>();
    let work = Promise.resolve();
    let text = '';
    socket.setEncoding('utf8');
    socket.on('error', (error) => (why = causeChain(error)));
    socket.on('connect', () => {
      this.connected = true;
      this.#backoff.reset();
      seen = new Set();
      this.#logger.info({ socket: this.#path }, 'connected to the node agent');
      this.#send(socket, { kind: 'hello', schema: enrolmentSchema, instance: this.#instance });
    });
    socket.on('data', (chunk: string) => {
      text += chunk;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        // One after the other: the last word on a pod is the one that came last.
        work = work.then(() => this.#line(socket, line, seen));
      }
      if (text.length > maxEnrolmentFrameBytes)
        socket.destroy(new Error('a frame of the agent is too long'));
    });
    socket.on('close', () => this.#lost(why));
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#socket?.destroy();
  }

  async #line(socket: Socket, line: string, seen: Set<string>): Promise<void> {
    const frame = decodeAgentFrame(line);
    if (!frame.ok) {
      this.#logger.error(
        { reason: frame.error.message },
        'frame from the node agent cannot be read',
      );
      socket.destroy();
      return;
    }
    const { id } = frame.value;
    try {
      await this.#carryOut(frame.value, seen);
      this.#send(socket, { kind: 'ack', id });
    } catch (error) {
      this.#logger.error(
        { err: error, frame: frame.value.kind },
        'the agent asked for what cannot be done',
      );
      this.#send(socket, { kind: 'ack', id, error: causeChain(error) });
    }
  }

  #carryOut(frame: AgentFrame, seen: Set<string>): Promise<void> {
    switch (frame.kind) {
      case 'pod-added':
        seen.add(frame.pod.uid);
        return this.#handlers.add(frame.pod);
      case 'pod-removed':
        seen.delete(frame.uid);
        return this.#handlers.remove(frame.uid, frame.why);
      case 'pods-complete':
        return this.#handlers.complete(seen);
    }
  }

  #send(socket: Socket, frame: ZtunnelFrame): void {
    if (!socket.destroyed) socket.write(`${JSON.stringify(frame)}\n`);
  }

  #lost(why: string): void {
    const was = this.connected;
    this.connected = false;
    if (this.#closed) return;
    if (was) this.#logger.warn({ reason: why }, 'lost the node agent');
    else this.#logger.debug({ reason: why }, 'the node agent is not there');
    this.#retry = setTimeout(() => this.connect(), this.#backoff.nextMs());
  }
}

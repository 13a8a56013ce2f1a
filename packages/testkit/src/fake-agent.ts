import { mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AgentFrame, EnrolledPod, EnrolmentAck, ZtunnelFrame } from '@ambit/api';
import { agentSocketName } from '@ambit/api';

/** The node agent's end of enrolment on a real unix socket: it says what a test tells it to. */
export interface FakeAgent {
  readonly path: string;
  readonly connections: number;
  /** Names a pod; resolves when the ztunnel listens in it (or at once when none is connected), rejects with its reason. */
  add(pod: EnrolledPod): Promise<void>;
  remove(uid: string, why: 'released' | 'deleted'): Promise<void>;
  /** Resolves when a ztunnel has connected and knows every pod. */
  ready(): Promise<void>;
  close(): Promise<void>;
}

type Message = AgentFrame extends infer F ? (F extends AgentFrame ? Omit<F, 'id'> : never) : never;

export async function startFakeAgent(): Promise<FakeAgent> {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-agent-'));
  const path = join(directory, agentSocketName);
  const pods = new Map<string, EnrolledPod>();
  const peers = new Set<Socket>();
  const waiting = new Map<number, (ack: EnrolmentAck) => void>();
  const told = new Set<() => void>();
  let complete = false;
  let nextId = 1;

  const send = (peer: Socket, message: Message): Promise<void> => {
    const id = nextId++;
    return new Promise((resolve, reject) => {
      waiting.set(id, ({ error }) => {
        waiting.delete(id);
        if (error === undefined) resolve();
        else reject(new Error(error));
      });
      peer.write(`${JSON.stringify({ id, ...message })}\n`);
    });
  };
  const greet = async (peer: Socket): Promise<void> => {
    const added = [...pods.values()].map((pod) => send(peer, { kind: 'pod-added', pod }));
    await Promise.all([...added, send(peer, { kind: 'pods-complete' })]);
    complete = true;
    for (const tell of [...told]) tell();
  };
  const heard = (peer: Socket, frame: ZtunnelFrame): void => {
    if (frame.kind === 'hello') {
      peers.add(peer);
      void greet(peer);
    } else {
      waiting.get(frame.id)?.(frame);
    }
  };
  const server = createServer((peer) => {
    let text = '';
    peer.setEncoding('utf8');
    peer.on('error', () => peer.destroy());
    peer.on('close', () => {
      peers.delete(peer);
      complete = peers.size > 0;
    });
    peer.on('data', (chunk: string) => {
      text += chunk;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        heard(peer, JSON.parse(text.slice(0, end)) as ZtunnelFrame);
        text = text.slice(end + 1);
      }
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  return {
    path,
    get connections() {
      return peers.size;
    },
    async add(pod) {
      pods.set(pod.uid, pod);
      await Promise.all([...peers].map((peer) => send(peer, { kind: 'pod-added', pod })));
    },
    async remove(uid, why) {
      pods.delete(uid);
      await Promise.all([...peers].map((peer) => send(peer, { kind: 'pod-removed', uid, why })));
    },
    async ready() {
      if (complete) return;
      await new Promise<void>((resolve) => {
        const tell = (): void => {
          told.delete(tell);
          resolve();
        };
        told.add(tell);
      });
    },
    async close() {
      for (const peer of peers) peer.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

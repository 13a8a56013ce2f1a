import { chmodSync, rmSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { MeshError, errnoCode } from '@ambit/core';

/** Of the directory of the agents' state: here whoever has the node is asked for it. */
export const handoverSocketName = 'handover.sock';

/** An agent, as it makes itself known to another. */
export interface Candidate {
  /** Of its pod. */
  readonly name: string;
  /** When its pod was made, in milliseconds since 1970: the youngest is the one that is wanted. */
  readonly since: number;
}

/** `who`: nothing is to change. `stand-by`: it waits until the other ends. `take-over`: it wants the node. */
type Ask = 'who' | 'stand-by' | 'take-over';

interface Question extends Candidate {
  readonly schema: number;
  readonly ask: Ask;
}

interface Answer {
  readonly schema: number;
  /** Name of the agent that has the node from now on. */
  readonly owner: string;
  /** Whether that is the one that asked. */
  readonly yours: boolean;
}

/** A line to another agent of the node. For as long as it is open the other one lives. */
export interface Link extends Pick<Answer, 'owner' | 'yours'> {
  readonly ended: Promise<void>;
  close(): void;
}

const schema = 1;
const maxLineBytes = 4_096;
const maxAsking = 32;
const nobody: readonly (string | undefined)[] = ['ENOENT', 'ECONNREFUSED'];

/** Asks the agent that has the node. Undefined where none has it, or where it ended while it was asked. */
export async function askOwner(
  path: string,
  ask: Ask,
  self: Candidate,
  withinMs: number,
): Promise<Link | undefined> {
  const socket = connect(path);
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const question: Question = { schema, ask, ...self };
  socket.write(`${JSON.stringify(question)}\n`);
  const timer = setTimeout(
    () =>
      socket.destroy(
        new MeshError(
          'agent/not-handed-over',
          `the agent of this node did not answer in ${withinMs} ms`,
        ),
      ),
    withinMs,
  );
  try {
    const line = await firstLine(socket);
    if (line === undefined) return undefined;
    const { owner, yours } = readAnswer(line);
    return { owner, yours, ended, close: () => void socket.destroy() };
  } catch (error) {
    socket.destroy();
    if (nobody.includes(errnoCode(error))) return undefined;
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

export interface OfferOptions {
  readonly path: string;
  readonly name: string;
  /** Whether it is to have the node. Once that settles with true, nothing of this agent is in its way. */
  readonly give: (to: Candidate) => Promise<boolean>;
  /** The other one has it, for as long as it lives. */
  readonly given: (to: Candidate, ended: Promise<void>) => void;
}

/** Answers other agents, as the one that has the node, until it gives it away. */
export async function offerNode(options: OfferOptions): Promise<{ close(): void }> {
  const { path } = options;
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => open.delete(socket));
    void serve(socket, server, options);
  });
  server.maxConnections = maxAsking;
  // Nobody answers there: it is what one that was killed has left.
  rmSync(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  return {
    close: () => {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}

async function serve(socket: Socket, server: Server, options: OfferOptions): Promise<void> {
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const answer = (owner: string, yours: boolean): void => {
    const line: Answer = { schema, owner, yours };
    socket.write(`${JSON.stringify(line)}\n`);
  };
  try {
    const line = await firstLine(socket);
    if (line === undefined) return;
    const { ask, name, since } = readQuestion(line);
    if (ask !== 'take-over' || !(await options.give({ name, since }))) {
      answer(options.name, false);
      return;
    }
    // The name is free before the other one knows that the node is its own.
    server.close();
    answer(name, true);
    options.given({ name, since }, ended);
  } catch {
    socket.destroy();
  }
}

/** Undefined where the other side ends before it. */
function firstLine(socket: Socket): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    let text = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      text += chunk;
      const end = text.indexOf('\n');
      if (end >= 0) resolve(text.slice(0, end));
      else if (text.length > maxLineBytes) reject(new Error('the line is too long'));
    });
    socket.once('error', reject);
    socket.once('close', () => resolve(undefined));
  });
}

function readQuestion(line: string): Question {
  const fields = JSON.parse(line) as Partial<Question>;
  const { ask, name, since } = fields;
  if (fields.schema !== schema || typeof name !== 'string' || typeof since !== 'number')
    throw new Error('not a question of an agent');
  if (ask !== 'who' && ask !== 'stand-by' && ask !== 'take-over')
    throw new Error('not a question of an agent');
  return { schema, ask, name, since };
}

function readAnswer(line: string): Answer {
  const { owner, yours } = JSON.parse(line) as Partial<Answer>;
  if (typeof owner !== 'string' || typeof yours !== 'boolean')
    throw new MeshError(
      'agent/not-handed-over',
      'the agent of this node answered what is no answer',
    );
  return { schema, owner, yours };
}

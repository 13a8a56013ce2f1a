import { chmodSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { connect, createServer } from 'node:net';

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
const questionMs = 5_000;

/** Asks the agent that has the node. Undefined where there was no answer, which does not mean that nobody has it. */
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
  const answer = readAnswer(await firstLine(socket, withinMs));
  if (answer !== undefined)
    return { owner: answer.owner, yours: answer.yours, ended, close: () => void socket.destroy() };
  socket.destroy();
  return undefined;
}

/** What becomes of a node that is asked for: given, kept, or another one has it already. */
export type Given = 'given' | 'kept' | 'gone';

export interface OfferOptions {
  readonly path: string;
  readonly name: string;
  /** Whether the other one is to have the node. Once it is given, nothing of this agent is in its way. */
  readonly give: (to: Candidate) => Promise<Given>;
  /** The other one has it, for as long as it lives. */
  readonly given: (to: Candidate, ended: Promise<void>) => void;
}

export interface Offer {
  /** Whether others wait for this agent's end. */
  readonly hasOthers: boolean;
  /** No longer takes questions; those who wait are not told. */
  closeDoor(): void;
  close(): void;
}

/** Answers other agents, as the one that has the node. Only whoever holds its lock may: the path is taken from anybody. */
export async function offerNode(options: OfferOptions): Promise<Offer> {
  const { path } = options;
  const open = new Set<Socket>();
  const waiting = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => {
      open.delete(socket);
      waiting.delete(socket);
    });
    serve(socket, options, () => waiting.add(socket)).catch(() => socket.destroy());
  });
  server.maxConnections = maxAsking;
  rmSync(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  return {
    get hasOthers() {
      return waiting.size > 0;
    },
    closeDoor: () => void server.close(),
    close: () => {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}

async function serve(socket: Socket, options: OfferOptions, waits: () => void): Promise<void> {
  const { name, give, given } = options;
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const answer = (owner: string, yours: boolean): void => {
    const line: Answer = { schema, owner, yours };
    socket.write(`${JSON.stringify(line)}\n`);
  };
  const line = await firstLine(socket, questionMs);
  if (line === undefined) {
    socket.destroy();
    return;
  }
  const question = readQuestion(line);
  // One of another version waits for the end of this one, as does one that asks for no more.
  if (question?.ask !== 'take-over') {
    if (question?.ask !== 'who') waits();
    answer(name, false);
    return;
  }
  const to = { name: question.name, since: question.since };
  const outcome = await give(to);
  if (outcome === 'gone') {
    socket.destroy();
    return;
  }
  if (outcome === 'kept') waits();
  answer(outcome === 'given' ? to.name : name, outcome === 'given');
  if (outcome === 'given') given(to, ended);
}

/** Undefined where the other side ends before it, is not there, or takes too long. */
function firstLine(socket: Socket, withinMs: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = '';
    const over = (line: string | undefined): void => {
      clearTimeout(timer);
      resolve(line);
    };
    const timer = setTimeout(() => over(undefined), withinMs);
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      if (text.length <= maxLineBytes) text += chunk;
      const end = text.indexOf('\n');
      if (end >= 0) over(text.slice(0, end));
      else if (text.length > maxLineBytes) over(undefined);
    });
    socket.on('error', () => over(undefined));
    socket.once('close', () => over(undefined));
  });
}

function readQuestion(line: string): Question | undefined {
  const fields = parsed(line);
  const { ask, name, since } = fields;
  if (fields['schema'] !== schema || typeof name !== 'string' || typeof since !== 'number')
    return undefined;
  if (ask !== 'who' && ask !== 'stand-by' && ask !== 'take-over') return undefined;
  return { schema, ask, name, since };
}

function readAnswer(line: string | undefined): Pick<Answer, 'owner' | 'yours'> | undefined {
  const { owner, yours } = parsed(line ?? '');
  return typeof owner === 'string' && typeof yours === 'boolean' ? { owner, yours } : undefined;
}

function parsed(line: string): Readonly<Record<string, unknown>> {
  try {
    return Object(JSON.parse(line)) as Readonly<Record<string, unknown>>;
  } catch {
    return {};
  }
}

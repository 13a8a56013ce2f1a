import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createLogger } from '@ambit/core';
import { askOwner } from './handover.ts';
import type { KeepOptions, Kept } from './keep.ts';
import { keepNode } from './keep.ts';

let dir: string;
let path: string;
/** What the agents of a test did, in order. */
let acts: string[];
let running: Kept[];
const logger = createLogger({ scope: 'test', level: 'error', format: 'text' });

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'keep-'));
  path = join(dir, 'handover.sock');
  acts = [];
  running = [];
});

afterEach(async () => {
  for (const kept of running) await kept.stop();
  rmSync(dir, { recursive: true });
});

interface Change extends Partial<KeepOptions> {
  readonly age?: number;
  readonly stopMs?: number;
}

async function agent(name: string, { age = 0, stopMs = 0, ...change }: Change = {}): Promise<Kept> {
  const kept = await keepNode({
    path,
    name,
    prepare: () => Promise.resolve(),
    madeAt: () => Promise.resolve(1_000 - age),
    begin: () => {
      acts.push(`${name} begins`);
      return Promise.resolve({
        stop: async (reason) => {
          await pause(stopMs);
          acts.push(`${name} ${reason}`);
        },
      });
    },
    logger,
    ...change,
  });
  running.push(kept);
  return kept;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function until(holds: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 5_000;
  while (!holds()) {
    if (performance.now() > deadlineMs) throw new Error(`not so: ${acts.join(', ')}`);
    await pause(10);
  }
}

async function owner(): Promise<string | undefined> {
  const link = await askOwner(path, 'who', { name: 'test', since: 0 }, 1_000);
  link?.close();
  return link?.owner;
}

describe('the node of an agent', () => {
  test('is its own where no other has it, whatever one that was killed has left', async () => {
    const listens = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`;
    spawnSync(process.execPath, ['-e', listens]);
    expect(existsSync(path)).toBe(true);
    expect(await owner()).toBeUndefined();
    const first = await agent('a');
    expect(await owner()).toBe('a');
    await first.stop();
    expect(await owner()).toBeUndefined();
    expect(acts).toEqual(['a begins', 'a ends']);
  });

  test('goes to a newer one that is ready for it, once the first has let it go', async () => {
    await agent('a', { stopMs: 50 });
    await agent('b');
    expect(acts).toEqual(['a begins', 'a hands-over', 'b begins']);
    expect(await owner()).toBe('b');
  });

  test('stays with the first for as long as the newer one lacks something', async () => {
    await agent('a');
    let ready: () => void = () => undefined;
    const prepare = (): Promise<void> => new Promise((resolve) => (ready = resolve));
    const second = agent('b', { prepare });
    await pause(100);
    expect(await owner()).toBe('a');
    expect(acts).toEqual(['a begins']);
    ready();
    await second;
    expect(await owner()).toBe('b');
  });

  test('stays with it where an agent of an older pod starts again, which has it after that one', async () => {
    const first = await agent('b');
    const second = agent('a', { age: 500 });
    await pause(200);
    expect(acts).toEqual(['b begins']);
    expect(await owner()).toBe('b');
    await first.stop();
    await second;
    expect(acts).toEqual(['b begins', 'b ends-beside-another', 'a begins']);
  });

  test('goes to one that lacks something when the first ends', async () => {
    const first = await agent('a', { stopMs: 300 });
    const second = agent('b', { prepare: () => new Promise(() => undefined) });
    await pause(200);
    await first.stop();
    await second;
    expect(acts).toEqual(['a begins', 'a ends-beside-another', 'b begins']);
    expect(await owner()).toBe('b');
  });

  test('goes back when the newer one ends, and the end of one that stands by changes nothing', async () => {
    const first = await agent('a');
    const second = await agent('b');
    await second.stop();
    await until(() => acts.length === 5);
    expect(acts.slice(3)).toEqual(['b ends-beside-another', 'a begins']);
    expect(await owner()).toBe('a');
    await agent('c');
    await first.stop();
    expect(acts.slice(5)).toEqual(['a hands-over', 'c begins']);
    expect(await owner()).toBe('c');
  });

  test('goes back to the last that had it, and from that one to the first', async () => {
    await agent('a', { age: 3 });
    const second = await agent('b', { age: 2 });
    const third = await agent('c', { age: 1 });
    acts.length = 0;
    await third.stop();
    await until(() => acts.includes('b begins'));
    await pause(500);
    expect(acts).toEqual(['c ends-beside-another', 'b begins']);
    await second.stop();
    await until(() => acts.includes('a begins'));
    expect(acts.slice(2)).toEqual(['b ends-beside-another', 'a begins']);
  });

  test('is given by an agent that has not begun yet, and whose begin is then called off', async () => {
    const stuck = agent('a', {
      begin: (signal) =>
        new Promise((_resolve, reject) => {
          acts.push('a begins');
          signal.addEventListener('abort', () => {
            acts.push('a is called off');
            reject(new Error('called off'));
          });
        }),
    });
    await until(() => acts.length === 1);
    await agent('b');
    await stuck;
    expect(acts).toEqual(['a begins', 'a is called off', 'b begins']);
  });

  test('goes to the youngest of two that ask at once', async () => {
    await agent('a', { age: 2, stopMs: 100 });
    const older = agent('b', { age: 1 });
    await agent('c');
    await pause(300);
    expect(await owner()).toBe('c');
    const begun = acts.filter((act) => act.endsWith('begins'));
    const ended = acts.filter((act) => act.endsWith('hands-over'));
    expect(begun.length - ended.length).toBe(1);
    // The older of the two stands by, whether it had the node or not.
    await Promise.race([older, pause(100)]);
  });

  test('is one of many that find it without an agent', async () => {
    const all = ['a', 'b', 'c', 'd'].map((name) => agent(name));
    await Promise.race(all);
    await pause(300);
    const begun = acts.filter((act) => act.endsWith('begins'));
    const ended = acts.filter((act) => act.endsWith('hands-over'));
    expect(begun.length - ended.length).toBe(1);
    expect(await owner()).toBe(begun.at(-1)!.split(' ')[0]);
  });

  test('is begun again for where its ports are free a moment later', async () => {
    let tries = 0;
    const kept = await agent('a', {
      begin: () => {
        tries += 1;
        if (tries < 3)
          return Promise.reject(Object.assign(new Error('taken'), { code: 'EADDRINUSE' }));
        return Promise.resolve({ stop: () => Promise.resolve() });
      },
    });
    expect(tries).toBe(3);
    await kept.stop();
  });

  test('is taken back when the newer one breaks off while it is given', async () => {
    await agent('a', { stopMs: 200 });
    const socket = connect(path);
    const question = { schema: 1, ask: 'take-over', name: 'b', since: 2_000 };
    socket.write(`${JSON.stringify(question)}\n`);
    await pause(100);
    socket.destroy();
    await until(() => acts.length === 3);
    expect(acts).toEqual(['a begins', 'a hands-over', 'a begins']);
  });

  test('is not given to what does not speak as an agent does, or as one of another version', async () => {
    await agent('a');
    const answers = ['{}\n', 'what?\n', 'x'.repeat(5_000), '{"schema":2,"ask":"take-over"}\n'].map(
      (text) =>
        new Promise<string>((resolve) => {
          const socket = connect(path, () => socket.write(text));
          socket.setEncoding('utf8');
          socket.on('error', () => undefined);
          socket.on('data', (line: string) => {
            resolve(line);
            socket.destroy();
          });
          socket.on('close', () => resolve(''));
        }),
    );
    const kept = '{"schema":1,"owner":"a","yours":false}\n';
    expect(await Promise.all(answers)).toEqual([kept, kept, '', kept]);
    expect(acts).toEqual(['a begins']);
  });
});

test('an agent that cannot begin says so', async () => {
  const failed = agent('a', { begin: () => Promise.reject(new Error('port 8000 is taken')) });
  await expect(failed).rejects.toThrow('port 8000 is taken');
});

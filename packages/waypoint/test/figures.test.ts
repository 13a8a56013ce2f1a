import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { ClientSession } from '@ambit/core';
import { floods } from './floods.ts';
import type { OwnProcess } from './own-process.ts';
import { startOwnProcess } from './own-process.ts';
import type { Backend, WaypointWorld } from './world.ts';
import {
  ask,
  endpointOf,
  openSession,
  openTunnel,
  shopService,
  startStreamingBackend,
  startWorld,
} from './world.ts';

/**
 * Figures of security.md T14 and T16, and what a pipeline costs, of the program itself in a process of its own. The times
 * of others are printed and not judged: who floods and who measures share a process, and perhaps a machine with others.
 */
let world: WaypointWorld;
let backend: Backend;
let own: OwnProcess;

const block = Buffer.alloc(256 * 1024);
const gibibyteBlocks = 4 * 1024;

beforeEach(async () => {
  backend = await startStreamingBackend('shop', '/gibibyte', { block, count: gibibyteBlocks });
  world = await startWorld({ services: [shopService()], workloads: [endpointOf(backend)] });
  own = await startOwnProcess(world);
}, 60_000);

afterEach(async () => {
  await own.close();
  await world.close();
  await backend.close();
});

/** Milliseconds of each request of one that asks without pause until `over`. */
async function times(session: ClientSession, over: () => boolean): Promise<number[]> {
  const taken: number[] = [];
  while (!over()) {
    const began = performance.now();
    expect((await ask(session, {})).status).toBe(200);
    taken.push(performance.now() - began);
    await sleep(2);
  }
  return taken.sort((left, right) => left - right);
}

const p99 = (sorted: readonly number[]): number => sorted[Math.floor(sorted.length * 0.99)] ?? 0;

test('T16: a gibibyte for each of a hundred readers that have stopped: at most 8 MiB each', async () => {
  const good = await openSession(world.ca, own.port, 'good');
  for (let at = 0; at < 200; at += 1) await ask(good, {});
  const before = own.rssMiB();
  const sessions: ClientSession[] = [];
  for (let at = 0; at < 100; at += 1) {
    if (at % 10 === 0) sessions.push(await openSession(world.ca, own.port, `stopped-${at}`));
    const tunnel = await openTunnel(sessions.at(-1) ?? good, 80);
    tunnel.on('error', () => undefined);
    tunnel.write('GET /gibibyte HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  }
  await sleep(3_000);
  const taken = await times(good, after(2_000));
  const held = own.rssMiB() - before;
  process.stderr.write(
    `T16: ${before.toFixed(0)} MiB before, ${held.toFixed(0)} MiB more for 100 stopped readers; p99 of others ${p99(taken).toFixed(1)} ms\n`,
  );
  expect(held).toBeLessThan(100 * 8);
  for (const { session } of sessions) session.destroy();
  good.session.destroy();
}, 120_000);

test('a pipeline without end holds only so much, and is answered in order', async () => {
  const good = await openSession(world.ca, own.port, 'good');
  await times(good, after(1_000));
  const before = own.rssMiB();
  const session = await openSession(world.ca, own.port, 'attacker');
  const stream = await openTunnel(session, 80);
  stream.on('error', () => undefined);
  const over = after(5_000);
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => {
    if (chunks.length < 2_000) chunks.push(chunk);
  });
  const many = Buffer.from('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n'.repeat(1_000));
  const victim = times(good, over);
  for (let round = 0; round < 400 && !over(); round += 1) {
    if (stream.write(many)) await sleep(0);
    else await Promise.race([new Promise((resolve) => stream.once('drain', resolve)), sleep(50)]);
  }
  await victim;
  const held = own.rssMiB() - before;
  const answer = Buffer.concat(chunks).toString('latin1');
  expect(answer.split('HTTP/1.1 200 ').length).toBeGreaterThan(1_000);
  expect(held).toBeLessThan(96);
  session.session.destroy();
  good.session.destroy();
}, 30_000);

function after(ms: number): () => boolean {
  const end = performance.now() + ms;
  return () => performance.now() > end;
}

test('T14: through all floods others lose no request, who floods is cut within five seconds, and the memory is as it was', async () => {
  const good = await openSession(world.ca, own.port, 'good');
  await times(good, after(1_500));
  const quiet = p99(await times(good, after(2_500)));
  const before = own.rssMiB();
  let peak = before;
  const watch = setInterval(() => (peak = Math.max(peak, own.rssMiB())), 50);
  const late: string[] = [];
  let over = false;
  const victim = times(good, () => over);
  try {
    for (const [name, begin, again, { reads = true } = {}] of floods) {
      const cutAfterMs = await flood(begin, again, reads);
      if (!(cutAfterMs < 5_000)) late.push(name);
    }
  } finally {
    over = true;
    clearInterval(watch);
  }
  const taken = await victim;
  process.stderr.write(
    `T14: p99 ${quiet.toFixed(1)} ms before, ${p99(taken).toFixed(1)} ms in ${floods.length} floods (${taken.length} requests); ` +
      `${before.toFixed(0)} MiB before, ${peak.toFixed(0)} MiB at most\n`,
  );
  expect(late).toEqual([]);
  expect(peak - before).toBeLessThan(64);
  good.session.destroy();
}, 180_000);

/** Floods until it is cut; after how many milliseconds that was. */
async function flood(
  begin: Buffer,
  again: (round: number) => Buffer | undefined,
  reads: boolean,
): Promise<number> {
  const session = await openSession(world.ca, own.port, 'attacker');
  const stream = await openTunnel(session, 80);
  const began = performance.now();
  let cutAt: number | undefined;
  const cut = (): void => {
    cutAt ??= performance.now();
  };
  for (const event of ['error', 'close', 'end'] as const) stream.on(event, cut);
  stream.resume();
  if (!reads) stream.pause();
  stream.write(begin);
  for (let round = 0; cutAt === undefined && performance.now() - began < 5_000; round += 1) {
    const bytes = again(round);
    const full = bytes !== undefined && !stream.write(bytes);
    await Promise.race([
      new Promise((resolve) => stream.once('drain', resolve)),
      sleep(full ? 50 : 1),
    ]);
  }
  session.session.destroy();
  return (cutAt ?? Infinity) - began;
}

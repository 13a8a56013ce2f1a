import { describe, expect, test } from '@jest/globals';
import type { ByteSink, ByteStream } from './byte-stream.ts';
import { copyBothWays } from './copy.ts';

/** An end that takes `room` bytes and is then full until it is relieved, and that gives only while it may. */
class Scripted implements ByteStream {
  readonly taken: Buffer[] = [];
  readonly log: string[] = [];
  #sink: ByteSink | undefined;
  #waiting: Buffer[] = [];
  #paused = false;
  #full = 0;
  #mostFull = 0;
  readonly #room: number;

  constructor(room = Number.POSITIVE_INFINITY) {
    this.#room = room;
  }

  get mostFull(): number {
    return this.#mostFull;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  attach(sink: ByteSink): void {
    this.#sink = sink;
  }

  write(chunk: Buffer): boolean {
    this.taken.push(chunk);
    this.#full += chunk.length;
    this.#mostFull = Math.max(this.#mostFull, this.#full);
    return this.#full < this.#room;
  }

  holdForEnd(): void {
    this.log.push('hold');
  }

  end(): void {
    this.log.push('end');
  }

  abort(reason: Error): void {
    this.log.push(`abort: ${reason.message}`);
    this.#sink?.close(reason);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    while (!this.#paused) {
      const chunk = this.#waiting.shift();
      if (chunk === undefined) return;
      this.#sink?.data(chunk);
    }
  }

  /** What the other side of it sends. */
  give(chunk: Buffer): void {
    if (this.#paused) this.#waiting.push(chunk);
    else this.#sink?.data(chunk);
  }

  giveEnd(): void {
    this.#sink?.end();
  }

  relieve(): void {
    const was = this.#full;
    this.#full = 0;
    if (was >= this.#room) this.#sink?.drain();
  }

  close(error?: Error): void {
    this.#sink?.close(error);
  }
}

/** Numbers from a seed, the same each time. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state % below;
  };
}

test('copystress', async () => {
  const next = numbers(7);
  const downstream = new Scripted(4096);
  const upstream = new Scripted(1000);
  const copy = copyBothWays(downstream, upstream);
  const sent: Buffer[] = [];
  const received: Buffer[] = [];
  for (let write = 0; write < 2_560; write += 1) {
    const chunk = Buffer.alloc(1 + next(600), write % 251);
    if (next(2) === 0) {
      sent.push(chunk);
      downstream.give(chunk);
    } else {
      received.push(chunk);
      upstream.give(chunk);
    }
    if (next(5) === 0) upstream.relieve();
    if (next(7) === 0) downstream.relieve();
  }
  while (downstream.waiting + upstream.waiting > 0) {
    upstream.relieve();
    downstream.relieve();
  }
  downstream.giveEnd();
  upstream.giveEnd();
  downstream.close();
  upstream.close();
  const outcome = await copy.done;
  expect(Buffer.concat(upstream.taken).equals(Buffer.concat(sent))).toBe(true);
  expect(Buffer.concat(downstream.taken).equals(Buffer.concat(received))).toBe(true);
  expect(outcome).toEqual({
    sent: Buffer.concat(sent).length,
    received: Buffer.concat(received).length,
  });
  // A full side holds one chunk more than its room and never a second.
  expect(upstream.mostFull).toBeLessThan(1000 + 601);
  expect(downstream.mostFull).toBeLessThan(4096 + 601);
  expect(upstream.log).toEqual(['end']);
  expect(downstream.log).toEqual(['end']);
});

describe('how it ends', () => {
  test('an end is passed on as an end, and the other direction goes on', () => {
    const [downstream, upstream] = [new Scripted(), new Scripted()];
    const copy = copyBothWays(downstream, upstream);
    downstream.giveEnd();
    expect(upstream.log).toEqual(['end']);
    upstream.give(Buffer.from('still here'));
    expect(Buffer.concat(downstream.taken).toString()).toBe('still here');
    expect(downstream.log).toEqual([]);
    copy.abort(new Error('the test is over'));
  });

  test.each(['downstream', 'upstream'] as const)('a break of %s breaks both', async (side) => {
    const streams = { downstream: new Scripted(), upstream: new Scripted() };
    const copy = copyBothWays(streams.downstream, streams.upstream);
    streams.downstream.giveEnd();
    streams[side].close(new Error('reset'));
    const outcome = await copy.done;
    expect(outcome.broken?.side).toBe(side);
    expect(outcome.broken?.error.message).toBe('reset');
    const other = side === 'downstream' ? streams.upstream : streams.downstream;
    expect(other.log).toContain('abort: reset');
  });

  test('half-closed and silent for too long, it is cut; bytes put that off', async () => {
    const [downstream, upstream] = [new Scripted(), new Scripted()];
    const copy = copyBothWays(downstream, upstream, { halfClosedTimeoutMs: 150 });
    downstream.giveEnd();
    for (let round = 0; round < 6; round += 1) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      upstream.give(Buffer.from('x'));
    }
    expect(upstream.log).toEqual(['end']);
    const outcome = await copy.done;
    expect(outcome.received).toBe(6);
    expect(outcome.broken?.error.message).toBe('half-closed for too long');
  });
});

describe('a connection that is let go', () => {
  const reason = new Error('stopping');

  test('ends both ways in order, and is over when both sides are', async () => {
    const [downstream, upstream] = [new Scripted(), new Scripted()];
    const copy = copyBothWays(downstream, upstream);
    copy.letGo(reason);
    expect([downstream.log, upstream.log]).toEqual([['end'], ['end']]);
    for (const side of [downstream, upstream]) side.giveEnd();
    for (const side of [downstream, upstream]) side.close();
    expect(await copy.done).toEqual({ sent: 0, received: 0 });
  });

  test('is cut when a side speaks all the same, and its bytes go nowhere', async () => {
    const [downstream, upstream] = [new Scripted(), new Scripted()];
    const copy = copyBothWays(downstream, upstream);
    copy.letGo(reason);
    downstream.give(Buffer.from('a request'));
    expect(upstream.taken).toEqual([]);
    expect(await copy.done).toEqual({
      sent: 0,
      received: 0,
      broken: { side: 'downstream', error: reason },
    });
  });

  test('goes on until a chunk of which it is said', () => {
    const [downstream, upstream] = [new Scripted(), new Scripted()];
    const copy = copyBothWays(downstream, upstream);
    copy.letGo(
      reason,
      (direction, chunk) => direction === 'received' && chunk.equals(Buffer.from('last')),
    );
    downstream.give(Buffer.from('last'));
    upstream.give(Buffer.from('not it'));
    expect(downstream.log).toEqual([]);
    upstream.give(Buffer.from('last'));
    expect(downstream.log).toEqual(['hold', 'end']);
    expect(upstream.log).toEqual(['end']);
    expect(Buffer.concat(downstream.taken).toString()).toBe('not itlast');
    copy.abort(reason);
  });

  test('at once, where it waited for a chunk until then', () => {
    const [downstream, upstream] = [new Scripted(), new Scripted()];
    const copy = copyBothWays(downstream, upstream);
    copy.letGo(reason, () => false);
    copy.letGo(reason);
    copy.letGo(reason, () => false);
    expect(downstream.log).toEqual(['end']);
    upstream.give(Buffer.from('more'));
    expect(downstream.log).toEqual(['end', 'abort: stopping']);
  });
});

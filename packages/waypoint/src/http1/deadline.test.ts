import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { Deadline } from './deadline.ts';

function busy(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

test('passes, and never early', async () => {
  const began = performance.now();
  const deadline = new Deadline(10, () => passed.resolve(performance.now() - began));
  const passed = Promise.withResolvers<number>();
  deadline.set(50);
  expect(await passed.promise).toBeGreaterThanOrEqual(50);
  deadline.close();
});

test('what arrived while the process had no time moves it', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  let passed = 0;
  const deadline = new Deadline(10, () => (passed += 1));
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const read = new Promise<void>((resolve) => {
    socket.once('data', () => {
      deadline.set(60_000);
      resolve();
    });
  });
  const [peer] = (await once(server, 'connection')) as [Socket];
  deadline.set(40);
  // The first look starts its time.
  await sleep(15);
  // Out of the phase of the loop after which sockets would come first.
  await new Promise(setImmediate);
  peer.end('here');
  busy(100);
  await read;
  await sleep(40);
  expect(passed).toBe(0);
  deadline.close();
  server.close();
});

test('one that is cleared or closed says nothing, even when its time is over already', async () => {
  let passed = 0;
  const cleared = new Deadline(5, () => (passed += 1));
  const closed = new Deadline(5, () => (passed += 1));
  cleared.set(5);
  closed.set(5);
  await sleep(8);
  setTimeout(() => {
    cleared.clear();
    closed.close();
  }, 1);
  busy(30);
  await sleep(40);
  expect(passed).toBe(0);
  cleared.close();
});

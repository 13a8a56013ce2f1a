import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, createServer } from 'node:net';
import { expect, test } from '@jest/globals';
import { Deadline } from './deadline.ts';

function busy(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

test('an answer that arrived while the process had no time comes before the deadline', async () => {
  const server = createServer((socket) => void socket.end('here'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const order: string[] = [];
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const answered = new Promise<void>((resolve) => {
    socket.once('data', () => {
      order.push('answer');
      resolve();
    });
  });
  await once(server, 'connection');
  const over = new Promise<void>((resolve) => {
    new Deadline(() => {
      order.push('deadline');
      resolve();
    }, 20);
  });
  busy(60);
  await Promise.all([answered, over]);
  expect(order).toEqual(['answer', 'deadline']);
  server.close();
});

test('one that is cleared says nothing, even when its time is over already', async () => {
  let calls = 0;
  const deadline = new Deadline(() => (calls += 1), 5);
  setTimeout(() => deadline.clear(), 5);
  busy(20);
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(calls).toBe(0);
});

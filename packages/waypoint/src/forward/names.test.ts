import type { Hostname } from '@ambit/api';
import { afterEach, expect, jest, test } from '@jest/globals';
import type { NameAnswer, Names } from './names.ts';
import { createNames } from './names.ts';

const host = 'api.example.com' as Hostname;
let names: Names;
let asked: Hostname[];
let answers: (NameAnswer | Error)[];
let changes: number;
let needed: boolean;

function start(...given: (NameAnswer | Error)[]): void {
  jest.useFakeTimers();
  asked = [];
  answers = given;
  changes = 0;
  needed = true;
  names = createNames({
    lookup: (hostname) => {
      asked.push(hostname);
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      return answer instanceof Error || answer === undefined
        ? Promise.reject(answer ?? new Error('no answer'))
        : Promise.resolve(answer);
    },
    isNeeded: () => needed,
    onChange: () => (changes += 1),
  });
}

afterEach(() => {
  names.close();
  jest.useRealTimers();
});

test('a name is known once it was looked up, and both families are', async () => {
  start({ addresses: ['192.0.2.1', '2001:db8::1'], ttlSeconds: 30 });
  expect(names.addressesOf(host)).toEqual([]);
  await names.settled(host, 1000);
  expect(names.addressesOf(host)).toEqual(['192.0.2.1', '2001:db8::1']);
  expect(changes).toBe(1);
  expect(asked).toEqual([host]);
});

test('it is asked for again when its time is over, and not before', async () => {
  start({ addresses: ['192.0.2.1'], ttlSeconds: 60 }, { addresses: ['192.0.2.2'], ttlSeconds: 60 });
  await names.settled(host, 1000);
  await jest.advanceTimersByTimeAsync(59_000);
  expect(asked).toHaveLength(1);
  await jest.advanceTimersByTimeAsync(2_000);
  expect(names.addressesOf(host)).toEqual(['192.0.2.2']);
});

test('the last good answer stays while there is no better one', async () => {
  start({ addresses: ['192.0.2.1'], ttlSeconds: 30 }, new Error('SERVFAIL'), {
    addresses: [],
    ttlSeconds: 30,
  });
  await names.settled(host, 1000);
  await jest.advanceTimersByTimeAsync(200_000);
  expect(asked.length).toBeGreaterThan(2);
  expect(names.addressesOf(host)).toEqual(['192.0.2.1']);
});

test('an answer that leads to the proxy itself is none', async () => {
  start({
    addresses: ['127.0.0.1', '169.254.169.254', '::1', '0.0.0.0', 'fe80::1', '192.0.2.9'],
    ttlSeconds: 30,
  });
  await names.settled(host, 1000);
  expect(names.addressesOf(host)).toEqual(['192.0.2.9']);
});

test('a lifetime of nothing does not become a storm', async () => {
  start({ addresses: ['192.0.2.1'], ttlSeconds: 0 });
  await names.settled(host, 1000);
  await jest.advanceTimersByTimeAsync(60_000);
  expect(asked.length).toBeLessThan(15);
});

test('what nobody needs any more is forgotten', async () => {
  start({ addresses: ['192.0.2.1'], ttlSeconds: 30 });
  await names.settled(host, 1000);
  needed = false;
  await jest.advanceTimersByTimeAsync(100_000);
  expect(asked).toHaveLength(1);
});

test('strangers cannot make it remember more than a thousand names', async () => {
  start({ addresses: ['192.0.2.1'], ttlSeconds: 30 });
  for (let index = 0; index < 3_000; index += 1)
    names.addressesOf(`n${index}.example.com` as Hostname);
  await jest.advanceTimersByTimeAsync(1_000);
  expect(asked).toHaveLength(1_000);
});

test('whoever waits for a name that never answers waits no longer than it said', async () => {
  start(new Error('never'));
  names.close();
  names = createNames({
    lookup: () => new Promise(() => undefined),
    isNeeded: () => true,
    onChange: () => undefined,
  });
  let done = false;
  void names.settled(host, 500).then(() => (done = true));
  await jest.advanceTimersByTimeAsync(499);
  expect(done).toBe(false);
  await jest.advanceTimersByTimeAsync(2);
  expect(done).toBe(true);
});

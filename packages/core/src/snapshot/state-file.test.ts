import { mkdtemp, readFile, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { aPolicy, aWorkload } from '@ambit/testkit';
import type { Upsert } from '@ambit/api';
import type { StateContent, StateFileOptions } from './state-file.ts';
import { openStateFile } from './state-file.ts';

let directory: string;
let options: StateFileOptions;
const now = new Date('2026-01-02T00:00:00Z');
const workload = aWorkload({ name: 'a' });
const policy = aPolicy({ name: 'p' });
const content: StateContent = {
  asOf: new Date('2026-01-01T12:00:00Z'),
  upserts: [
    { type: 'workload', name: workload.uid, version: 'v1', resource: workload },
    { type: 'policy', name: 'test/p', version: 'v2', resource: policy },
  ] as unknown as Upsert[],
  undecodable: [{ type: 'policy', name: 'test/broken' }],
  certificates: new Map([
    ['spiffe://cluster.local/ns/test/sa/a', { chain: ['c'], privateKey: 'secret', roots: ['r'] }],
  ]),
};

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'ambit-state-'));
  options = {
    path: join(directory, 'state/last-good'),
    keyPath: join(directory, 'key/state.key'),
    maxAgeMs: 24 * 3_600_000,
  };
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

test('what was saved is there again, from another process with the same key', async () => {
  await (await openStateFile(options)).save(content);
  const saved = await (await openStateFile(options)).load(now);
  expect(saved?.asOf).toEqual(content.asOf);
  expect(saved?.update.upserts).toEqual(content.upserts);
  expect(saved?.update.complete).toBe(true);
  expect(saved?.certificates).toEqual(content.certificates);
});

test('a policy that could not be read still cannot, and so still denies', async () => {
  const file = await openStateFile(options);
  await file.save(content);
  const saved = await file.load(now);
  expect(saved?.update.undecodable).toMatchObject([{ type: 'policy', name: 'test/broken' }]);
});

test('nothing of it is readable on disk, and only its owner may open file and key', async () => {
  await (await openStateFile(options)).save(content);
  const bytes = await readFile(options.path);
  for (const word of ['secret', 'spiffe', 'workload', workload.uid]) {
    expect(bytes.includes(word)).toBe(false);
  }
  for (const path of [options.path, options.keyPath]) {
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  }
});

test('saved twice the same, it is not the same twice: each time has a nonce of its own', async () => {
  const file = await openStateFile(options);
  await file.save(content);
  const first = await readFile(options.path);
  await file.save(content);
  expect((await readFile(options.path)).equals(first)).toBe(false);
});

test('no state, no file: none is found and none is made', async () => {
  expect(await (await openStateFile(options)).load(now)).toBeUndefined();
  expect(await readdir(join(directory, 'state'))).toEqual([]);
});

test('each changed byte, and each cut, is noticed', async () => {
  const file = await openStateFile(options);
  await file.save(content);
  const good = await readFile(options.path);
  const step = Math.max(1, Math.floor(good.length / 60));
  for (let at = 0; at < good.length; at += step) {
    const bad = Buffer.from(good);
    bad.writeUInt8(bad.readUInt8(at) ^ 1, at);
    await writeFile(options.path, bad);
    await expect(file.load(now)).rejects.toMatchObject({ code: 'state/unreadable' });
    await writeFile(options.path, good.subarray(0, at));
    await expect(file.load(now)).rejects.toMatchObject({ code: 'state/unreadable' });
  }
});

test('another key opens nothing', async () => {
  await (await openStateFile(options)).save(content);
  await rm(options.keyPath);
  await expect((await openStateFile(options)).load(now)).rejects.toMatchObject({
    code: 'state/unreadable',
  });
});

test('a key file with something else in it is named', async () => {
  await openStateFile(options);
  await writeFile(options.keyPath, 'short');
  await expect(openStateFile(options)).rejects.toThrow(options.keyPath);
});

test('a state older than it may be is not used', async () => {
  const file = await openStateFile(options);
  await file.save(content);
  const late = new Date(content.asOf.getTime() + options.maxAgeMs + 1);
  await expect(file.load(late)).rejects.toMatchObject({ code: 'state/too-old' });
});

test('two proxies that save at the same time leave one whole state', async () => {
  const [first, second] = [await openStateFile(options), await openStateFile(options)];
  await Promise.all(
    Array.from({ length: 20 }, (_, turn) => (turn % 2 === 0 ? first : second).save(content)),
  );
  expect((await first.load(now))?.update.upserts).toEqual(content.upserts);
  expect(await readdir(join(directory, 'state'))).toEqual(['last-good']);
});

test('what a writer left that ended in the middle is removed at the next start', async () => {
  await (await openStateFile(options)).save(content);
  const half = `${options.path}.0123456789ab.new`;
  await writeFile(half, 'half');
  await openStateFile(options);
  expect(await readdir(join(directory, 'state'))).toHaveLength(2);
  const longAgo = new Date(Date.now() - 120_000);
  await utimes(half, longAgo, longAgo);
  await openStateFile(options);
  expect(await readdir(join(directory, 'state'))).toEqual(['last-good']);
});

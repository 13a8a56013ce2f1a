import { expect, test } from '@jest/globals';
import { FirstLook } from './first-look.ts';

function lookAt(uids: string[]): FirstLook {
  return new FirstLook((except) => uids.filter((uid) => uid !== except));
}

test('what is missing is named, and nothing is any more once everything was seen', () => {
  const uids = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
  const look = lookAt(uids);
  expect(look.missing()).toMatch(/capture of a, b, c, d, e and 2 more is not verified/);
  uids.length = 0;
  expect(look.missing()).toBeUndefined();
  // A pod that joins later is no reason to refuse others.
  uids.push('h');
  expect(look.missing()).toBeUndefined();
});

test('a pod that starts does not wait for itself, and the look goes on', async () => {
  const uids = ['a'];
  const look = lookAt(uids);
  await look.passed('a', 0, () => undefined);
  expect(look.missing()).toContain('capture of a');
});

test('a pod that starts waits for the others, for so long', async () => {
  const uids = ['a', 'b'];
  const look = lookAt(uids);
  await expect(look.passed('b', 100, () => undefined)).rejects.toThrow(
    /were here before, the capture of a is not/,
  );
  setTimeout(() => uids.shift(), 100);
  await look.passed('b', 5_000, () => undefined);
  expect(uids).toEqual(['b']);
});

test('a pod that starts does not wait on when the agent no longer takes it', async () => {
  const look = lookAt(['a', 'b']);
  const passed = look.passed('b', 60_000, () => {
    throw new Error('the mesh is leaving this node');
  });
  await expect(passed).rejects.toThrow('the mesh is leaving this node');
});

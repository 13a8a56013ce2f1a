import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { BootMark } from './boot-mark.ts';
import { decideTaint } from './node-taint.ts';

describe('the taint of a node', () => {
  test.each([
    ['put', 'on one that was just booted', false, false, false],
    [undefined, 'on one that was just booted, twice', true, false, false],
    [undefined, 'on one whose agent is replaced', false, false, true],
    [undefined, 'from one that has it while its agent is replaced', true, false, true],
    ['take', 'from one that is ready', true, true, false],
    [undefined, 'from one that is ready and has none', false, true, false],
  ])('%s %s', (change, _, tainted, ready, wasReady) => {
    expect(decideTaint({ tainted, ready, wasReady })).toBe(change);
  });
});

describe('what was so since the boot', () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'boot-'));
  });

  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  test('is known to the next agent', () => {
    const mark = new BootMark(folder);
    expect(mark.isSet).toBe(false);
    mark.set();
    expect([mark.isSet, new BootMark(folder).isSet]).toEqual([true, true]);
  });

  test('is not after another boot, also where the file is still there', () => {
    new BootMark(folder, 'first').set();
    expect(new BootMark(folder, 'second').isSet).toBe(false);
  });
});

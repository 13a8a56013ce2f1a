import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { ElfProblem, interpreterOf, interpreterPatches, readerOf, withLibraryPath } from './elf.ts';

// The executable that runs this test is one as the plugin's: linked dynamically, by the same linker.
const own = readFileSync(process.execPath);
let root: string;

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'elf-'));
});
afterAll(() => rmSync(root, { recursive: true }));

function patched(image: Buffer, path: string): Buffer {
  const changed = Buffer.concat([image, Buffer.alloc(path.length + 1)]);
  for (const { at, bytes } of interpreterPatches(readerOf(image), image.length, path))
    bytes.copy(changed, at);
  return changed;
}

describe('an executable with another loader and library path', () => {
  test('names the loader', () => {
    const path = '/a/rather/long/directory/that/does/not/fit/where/the/old/one/was/ld.so.2';
    expect(interpreterOf(readerOf(patched(own, path)))).toBe(path);
  });

  test('runs by them', () => {
    const loader = interpreterOf(readerOf(own))!;
    const libraries = join(root, 'libraries');
    mkdirSync(libraries);
    writeFileSync(join(libraries, 'ld.so'), readFileSync(loader), { mode: 0o755 });
    const file = join(root, 'program');
    writeFileSync(file, patched(withLibraryPath(own, libraries), join(libraries, 'ld.so')), {
      mode: 0o755,
    });
    expect(execFileSync(file, ['-p', '6 * 7'], { encoding: 'utf8' }).trim()).toBe('42');
    rmSync(join(libraries, 'ld.so'));
    expect(() => execFileSync(file, ['-p', '6 * 7'], { stdio: 'pipe' })).toThrow('ENOENT');
  }, 30_000);

  test('has one library path, not two', () => {
    const once = withLibraryPath(own, '/a');
    expect(() => withLibraryPath(once, '/b')).toThrow('has a library path already');
  });
});

test('what is no such executable is refused, never half changed', () => {
  const text = Buffer.from('#!/bin/sh\nexit 0\n'.padEnd(128));
  expect(interpreterOf(readerOf(text))).toBeUndefined();
  expect(() => interpreterPatches(readerOf(text), text.length, '/ld.so')).toThrow(ElfProblem);
  expect(() => withLibraryPath(text, '/lib')).toThrow(ElfProblem);
  expect(() => interpreterPatches(readerOf(own), own.length, 'ld.so')).toThrow('absolute');
});

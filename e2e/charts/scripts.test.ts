import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { expect, test } from '@jest/globals';
import { root } from './helm.ts';

/** What the scripts that start clusters and builds do before they start anything. */
function run(script: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, 'scripts', script), ...args],
    { encoding: 'utf8', timeout: 15_000 },
  );
  return { status, stdout, stderr };
}

const scripts = ['e2e.mjs', 'e2e-cluster.mjs', 'conformance.mjs', 'cluster.mjs', 'images.mjs'];

test.each(scripts)('%s tells its options when asked for help, and starts nothing', (script) => {
  const { status, stdout, stderr } = run(script, '--help');
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toMatch(/^ {2,}-{1,2}[a-z]+ |--wipe/m);
  expect(stdout).not.toMatch(/import|✓|·/);
});

test.each(scripts)('%s refuses an option that it does not have, by name', (script) => {
  const { status, stdout, stderr } = run(script, '--kep');
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  expect(stderr).toMatch(/--kep is not an option; there are .*--help/);
});

test.each([
  ['cluster.mjs', ['dwn'], /dwn is not a command; there are setup, up/],
  ['cluster.mjs', ['up', '--wipe'], /--wipe is an option of down only/],
  ['images.mjs', ['ztunel'], /ztunel is not an image; there are .*ztunnel/],
  ['images.mjs', ['--tag'], /--tag needs a value/],
  ['conformance.mjs', ['MeshBasic', 'MeshPorts'], /one test at a time/],
])('%s refuses %j', (script, words, told) => {
  const { status, stderr } = run(script, ...words);
  expect(status).toBe(1);
  expect(stderr).toMatch(told);
});

/** A Node of the machine that is not the pinned one, which runs these tests. */
const otherNode = (process.env['PATH'] ?? '')
  .split(delimiter)
  .map((folder) => join(folder, 'node'))
  .find((file) => existsSync(file) && versionOf(file) !== process.version);

function versionOf(node: string): string {
  return spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout.trim();
}

(otherNode === undefined ? test.skip : test)('images.mjs is carried out by the pinned Node, whoever starts it', () => {
  const script = join(root, 'scripts/images.mjs');
  const { status, stderr } = spawnSync(otherNode ?? '', [script, 'ztunel'], { encoding: 'utf8' });
  expect(stderr).toMatch(/^\nambit: ztunel is not an image/);
  expect(status).toBe(1);
});

import { spawnSync } from 'node:child_process';
import { expect, test } from '@jest/globals';

const script = `
import { runMain } from ${JSON.stringify(new URL('main.ts', import.meta.url).href)};
const logger = { info() {}, warn: (fields) => console.log(JSON.stringify(fields)), fatal: console.error };
setInterval(() => undefined, 1_000);
const running = { stop: () => new Promise(() => undefined), ...JSON.parse(process.argv[1]) };
await runMain(async () => running, { logger, stopDeadlineMs: 50, exit: (code) => process.exit(code) });
process.kill(process.pid, 'SIGTERM');
`;

test.each([
  [{}, 50],
  [{ stopDeadlineMs: 300 }, 300],
])(
  'a program that does not stop ends at its deadline, that of its settings before another: %j',
  (running, deadlineMs) => {
    const words = ['--input-type=module', '-e', script, JSON.stringify(running)];
    const { status, stdout, stderr } = spawnSync(process.execPath, words, {
      encoding: 'utf8',
      timeout: 15_000,
    });
    expect({ status, stdout, stderr }).toEqual({
      status: 1,
      stdout: `${JSON.stringify({ deadlineMs })}\n`,
      stderr: '',
    });
  },
);

test('a program that is told to end before it has started ends at once', () => {
  const waits = script
    .replace('async () => running', '() => new Promise(() => undefined)')
    .replace('await runMain', 'void runMain');
  const words = ['--input-type=module', '-e', waits, '{}'];
  const { status, stdout, stderr } = spawnSync(process.execPath, words, {
    encoding: 'utf8',
    timeout: 15_000,
  });
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' });
});

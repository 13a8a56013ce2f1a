import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

const program = join(import.meta.dirname, '../src/main.ts');

function ambitctl(home: string, ...args: string[]): Promise<{ code: unknown; told: string }> {
  return new Promise((resolve) => {
    const source = ['--conditions=mesh-source', '--no-warnings', program];
    execFile(
      process.execPath,
      [...source, ...args],
      { env: { HOME: home } },
      (error, _out, told) => {
        resolve({ code: error?.code ?? 0, told });
      },
    );
  });
}

test('without a kubeconfig it is said that there is no cluster, and how to name one', async () => {
  const home = await mkdtemp(join(tmpdir(), 'ambit-no-cluster-'));
  try {
    for (const command of [['waypoint', 'list'], ['check']]) {
      const { code, told } = await ambitctl(home, ...command);
      expect([command, code, told]).toEqual([
        command,
        1,
        'ambitctl: no cluster is configured: give --kubeconfig (and --context), or set KUBECONFIG\n',
      ]);
    }
  } finally {
    await rm(home, { recursive: true });
  }
}, 30_000);

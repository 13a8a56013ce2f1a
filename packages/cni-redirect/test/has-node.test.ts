import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { handoverSocketName, offerNode } from '../src/agent/handover.ts';

const main = fileURLToPath(new URL('../src/agent/has-node/main.ts', import.meta.url));
const node = fileURLToPath(new URL('../../../node_modules/.bin/node', import.meta.url));
let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'has-node-'));
});

afterEach(() => rmSync(dir, { recursive: true }));

function probe(name: string): Promise<{ readonly code: unknown; readonly stderr: string }> {
  return new Promise((resolve) =>
    execFile(
      node,
      ['--conditions=mesh-source', main],
      { env: { POD_NAME: name, STATE_DIR: dir } },
      (error, _stdout, stderr) => resolve({ code: error === null ? 0 : error.code, stderr }),
    ),
  );
}

test('the startup probe of an agent passes once that one has its node', async () => {
  expect(await probe('agent-1')).toEqual({
    code: 1,
    stderr: 'no agent has this node, and not agent-1 yet; its log says why\n',
  });
  const offer = await offerNode({
    path: join(dir, handoverSocketName),
    name: 'agent-1',
    give: () => Promise.resolve('kept'),
    given: () => undefined,
  });
  try {
    expect(await probe('agent-1')).toEqual({ code: 0, stderr: '' });
    expect(await probe('agent-2')).toEqual({
      code: 1,
      stderr: 'agent-1 has this node, and not agent-2 yet; its log says why\n',
    });
  } finally {
    offer.close();
  }
});

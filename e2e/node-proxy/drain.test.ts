import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { eventually } from '../support/node.ts';
import type { Pod } from '../support/pods.ts';
import type { World } from '../support/world.ts';
import { makeWorld } from '../support/world.ts';

/** A proxy that is replaced lets go of connections that clients keep, which ask without end. */
let world: World;

beforeEach(async () => {
  world = await makeWorld({ settings: { drainMs: 3_000 } });
}, 60_000);

afterEach(async () => {
  await world.close();
});

/** Of 60; cut in their silences most of them would meet the cut. */
const mostLate = 6;

/** Half of its answers have a length, half come in two chunks. */
const server = `
require('node:http').createServer((request, response) => {
  request.resume().on('end', () => {
    if (Math.random() < 0.5) return response.end('answer');
    response.write('ans');
    setTimeout(() => response.end('wer'), 1);
  });
}).listen(8080, () => console.log('listening'))`;

function inPod(pod: Pod, ...args: readonly string[]) {
  const command = ['netns', 'exec', pod.name, process.execPath, ...args];
  return spawn('ip', command, { stdio: ['ignore', 'pipe', 'inherit'] });
}

test.each(['client', 'server'] as const)(
  'that of the %s',
  async (side) => {
    const app = inPod(world.server, '-e', server);
    try {
      await once(createInterface(app.stdout), 'line');
      const program = fileURLToPath(new URL('../support/kept-load.mjs', import.meta.url));
      const url = `http://${world.server.ip4}:8080/`;
      const load = inPod(world.client, program, url, '60', '20', '49');
      const said = once(createInterface(load.stdout), 'line');
      const { node1, node2 } = world;
      const node = side === 'client' ? node1 : node2;
      const { connections } = node.ztunnel.context;
      await eventually(
        () => connections.size,
        (open) => open === 60,
      );
      await new Promise((resolve) => setTimeout(resolve, 500));
      await node.ztunnel.stop();
      await node1.ztunnel.stop();
      const totals = JSON.parse(String(await said)) as { answered: number; failed: string[] };
      expect(totals.answered).toBeGreaterThan(300);
      // A client that is kept from its processor for a whole pause, between reading the answer and the end, asks once more.
      expect(totals.failed.slice(mostLate)).toEqual([]);
    } finally {
      app.kill();
    }
  },
  60_000,
);

test('those of a pod that has left the mesh go on to the end', async () => {
  const app = inPod(world.server, '-e', server);
  const program = fileURLToPath(new URL('../support/kept-load.mjs', import.meta.url));
  await once(createInterface(app.stdout), 'line');
  const load = inPod(world.client, program, `http://${world.server.ip4}:8080/`, '20', '20', '49');
  try {
    const { node1, client } = world;
    const { connections } = node1.ztunnel.context;
    const open = (): number => connections.size;
    await eventually(open, (count) => count === 20);
    await node1.release(client);
    const stopped = node1.ztunnel.stop();
    // Those of other pods would have ended in the first quarter of the three seconds.
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    expect(open()).toBe(20);
    await stopped;
  } finally {
    load.kill();
    app.kill();
  }
}, 60_000);

import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { tell, workloadOf } from '../support/mesh.ts';
import type { App, Call, Pod } from '../support/pods.ts';
import { call, serve, sh } from '../support/pods.ts';
import type { World } from '../support/world.ts';
import { makeWorld } from '../support/world.ts';

/**
 * The proxy connects to the application with the client's address and a port that the pod's kernel chooses, which knows
 * nothing of the ports that the client has taken: the two may be the same.
 */
let world: World;
let app: App;
const opened: Call[] = [];
const ports = Array.from({ length: 16 }, (_, index) => 40_000 + index);

beforeEach(async () => {
  world = await makeWorld();
  app = serve(world.server, 8080);
  // No other ports to choose from, so that they meet for sure.
  const range = `${ports[0]} ${ports.at(-1)}`;
  portRange(world.server, range);
  // A client's own connections leave these ports to those that are bound to them.
  for (const pod of [world.client, world.plain]) portRange(pod, '50000 59999');
}, 60_000);

afterEach(async () => {
  for (const { socket } of opened.splice(0)) socket.destroy();
  app.close();
  await world.close();
});

function portRange(pod: Pod, range: string): void {
  sh(`ip netns exec ${pod.name} sysctl -qw net.ipv4.ip_local_port_range='${range}'`);
}

/** Says one more character on each and waits for its echo, for less than a SYN that is not answered is repeated. */
async function answered(calls: readonly Call[]): Promise<void> {
  const texts = calls.map(async ({ socket, text, received }) => {
    const expected = text() === '' ? 'server\na' : `${text()}a`;
    socket.setTimeout(4_000, () => socket.destroy());
    socket.write('a');
    return [await received(expected.length).catch(String), expected];
  });
  for (const [text, expected] of await Promise.all(texts)) expect(text).toBe(expected);
}

async function callFromAll(pod: Pod, to: Pod, family: 'ip4' | 'ip6'): Promise<Call[]> {
  const calls: Call[] = [];
  for (const port of ports) {
    const one = call(pod, to[family], 8080, port);
    opened.push(one);
    calls.push(one);
    await answered([one]);
  }
  return calls;
}

async function end(calls: readonly Call[]): Promise<void> {
  for (const { socket } of calls) socket.end();
  expect(await Promise.all(calls.map(({ ended }) => ended))).toEqual(calls.map(() => 'end'));
}

test.each(['ip4', 'ip6'] as const)(
  'plain connections from the very ports that the proxy takes are all carried (%s)',
  async (family) => {
    const { plain, server } = world;
    const calls = await callFromAll(plain, server, family);
    await end(calls);
    expect(new Set(app.seen)).toEqual(new Set([plain[family]]));
  },
);

test.each(['ip4', 'ip6'] as const)(
  'a client reaches a pod that left the mesh while its tunnels to it go on (%s)',
  async (family) => {
    const { client, plain, server, node1, node2, controller } = world;
    const tunnelled = ports.slice(0, 8).map(() => call(client, server[family], 8080));
    opened.push(...tunnelled);
    await answered(tunnelled);
    for (const pod of [client, server]) await tellLeft(pod);
    const direct = await callFromAll(client, server, family);
    await answered(tunnelled);
    await end([...tunnelled, ...direct]);
    expect(new Set(app.seen)).toEqual(new Set([client[family]]));
    expect(app.seen).not.toContain(plain[family]);

    async function tellLeft(pod: Pod): Promise<void> {
      await tell(controller, {
        workloads: [workloadOf(pod, pod === client ? 'n1' : 'n2', { tunnel: 'none' })],
      });
      await (pod === client ? node1 : node2).release(pod);
    }
  },
);

import { once } from 'node:events';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { podUid } from '@ambit/api';
import { aPolicy } from '@ambit/testkit';
import { tell, workloadOf } from '../support/mesh.ts';
import { eventually } from '../support/node.ts';
import type { App } from '../support/pods.ts';
import { ask, call, serve, sh } from '../support/pods.ts';
import type { World } from '../support/world.ts';
import { makeWorld } from '../support/world.ts';

/** A pod leaves the mesh while connections are on their way, and clients have not heard of it. */
let world: World;
let app: App;
const lingerMs = 1_500;

beforeEach(async () => {
  world = await makeWorld({ settings: { releaseLingerMs: lingerMs } });
  app = serve(world.server, 8080);
}, 60_000);

afterEach(async () => {
  app.close();
  await world.close();
});

const listening = (pod: World['client']): string => sh(`ip netns exec ${pod.name} ss -tlnH`);

test('connections that were redirected before the rules went are carried on', async () => {
  const { client, server, node1, controller } = world;
  // They wait for what the proxy does not know yet.
  await tell(controller, {}, [{ type: 'workload', name: 'Kubernetes//Pod/test/client' }]);
  const known = (): boolean =>
    node1.ztunnel.context.state.workload(podUid('Kubernetes', 'test', 'client')) !== undefined;
  await eventually(known, (is) => !is);
  const calls = Array.from({ length: 20 }, () => call(client, server.ip4, 8080));
  await Promise.all(calls.map(({ socket }) => once(socket, 'connect')));
  for (const { socket } of calls) socket.write('a');
  await node1.release(client);
  await tell(controller, { workloads: [workloadOf(client, 'n1', { tunnel: 'none' })] });
  expect(await Promise.all(calls.map((one) => one.received(8)))).toEqual(
    calls.map(() => 'server\na'),
  );
  for (const { socket } of calls) socket.end();
  expect(await Promise.all(calls.map(({ ended }) => ended))).toEqual(calls.map(() => 'end'));
});

test('clients that have not heard of it still reach the pod, by its policies, for a while', async () => {
  const { client, server, node2, controller } = world;
  expect(await ask(client, server.ip4, 8080)).toBe('server');
  await node2.release(server);
  for (let i = 0; i < 5; i += 1) expect(await ask(client, server.ip4, 8080)).toBe('server');
  await tell(controller, {
    policies: [aPolicy({ name: 'nobody', rules: [{ from: [], to: [], when: [] }] })],
  });
  expect(await call(client, server.ip4, 8080).ended).toBe('ECONNRESET');
  await eventually(
    () => listening(server),
    (text) => !/:150(?:01|06|08)\b/.test(text),
    lingerMs + 3_000,
  );
});

test('a pod that comes back in the meantime is served by the same listeners', async () => {
  const { client, server, node2, plain } = world;
  await node2.release(server);
  await node2.enrol(server);
  await new Promise((resolve) => setTimeout(resolve, lingerMs + 200));
  expect(await ask(client, server.ip4, 8080)).toBe('server');
  expect(await ask(plain, server.ip4, 8080)).toBe('server');
  expect(node2.ztunnel.pods.size).toBe(1);
});

test('a pod that is let go and then deleted leaves no listener', async () => {
  const { server, node2 } = world;
  await node2.release(server);
  expect(listening(server)).toContain(':15008');
  await node2.agent.remove('uid-server', 'deleted');
  expect(listening(server)).not.toContain(':15008');
});

test('a pod of the mesh that learns of it speaks plain text', async () => {
  const { client, server, node2, controller } = world;
  await node2.release(server);
  await tell(controller, { workloads: [workloadOf(server, 'n2', { tunnel: 'none' })] });
  expect(await ask(client, server.ip4, 8080)).toBe('server');
  expect(app.seen.at(-1)).toBe(client.ip4);
});

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { aPolicy } from '@ambit/testkit';
import { tell, workloadOf } from '../support/mesh.ts';
import { enrolled, eventually, startNode } from '../support/node.ts';
import type { App } from '../support/pods.ts';
import { ask, call, makePod, removePod, serve, sh } from '../support/pods.ts';
import type { World } from '../support/world.ts';
import { makeWorld, uri } from '../support/world.ts';

/** Rows 17, 18 and 25 of the node proxy's table, and what happens while connections are open. */
let world: World;
let app: App;

beforeEach(async () => {
  world = await makeWorld();
  app = serve(world.server, 8080);
}, 60_000);

afterEach(async () => {
  app.close();
  await world.close();
});

describe('the end of a proxy', () => {
  test('test_ztunnel_shutdown', async () => {
    const { client, server, node1 } = world;
    const open = call(client, server.ip4, 8080);
    open.socket.write('a');
    expect(await open.received(8)).toBe('server\na');
    const stopped = node1.ztunnel.stop();
    // What is open goes on …
    open.socket.write('b');
    expect(await open.received(9)).toBe('server\nab');
    // … what is new fails, and soon: once what was on its way has been taken.
    await new Promise((resolve) => setTimeout(resolve, 400));
    const began = performance.now();
    expect(await call(client, server.ip4, 8080).ended).toBe('ECONNREFUSED');
    expect(performance.now() - began).toBeLessThan(2_000);
    // At the deadline it is cut, and never as if it were whole.
    expect(await open.ended).toBe('ECONNRESET');
    await stopped;
  });

  test('shutdown waits for an open connection and no longer', async () => {
    const { client, server, node1 } = world;
    const open = call(client, server.ip4, 8080);
    open.socket.write('a');
    await open.received(8);
    const began = performance.now();
    const stopped = node1.ztunnel.stop();
    open.socket.end();
    expect(await open.ended).toBe('end');
    await stopped;
    expect(performance.now() - began).toBeLessThan(900);
  });

  test('test_server_shutdown', async () => {
    const { client, server, node2, controller } = world;
    const open = call(client, server.ip4, 8080);
    open.socket.write('a');
    expect(await open.received(8)).toBe('server\na');
    await node2.agent.remove('uid-server', 'deleted');
    await tell(controller, {}, [{ type: 'workload', name: 'Kubernetes//Pod/test/server' }]);
    expect(await open.ended).toBe('ECONNRESET');
    expect(['ECONNRESET', 'ECONNREFUSED']).toContain(await call(client, server.ip4, 8080).ended);
  });

  test('a pod without its proxy lets nothing through in plain text', async () => {
    const { client, server, plain, node1, node2 } = world;
    await node1.ztunnel.stop();
    expect(await call(client, server.ip4, 8080).ended).toBe('ECONNREFUSED');
    expect(await call(client, plain.ip4, 8080).ended).toBe('ECONNREFUSED');
    await node2.ztunnel.stop();
    expect(await call(plain, server.ip4, 8080).ended).toBe('ECONNREFUSED');
    expect(app.seen).toEqual([]);
  });
});

describe('certificates', () => {
  test('test_prefetch_forget_certs', async () => {
    const { controller, node1 } = world;
    await eventually(
      () => controller.requested.length,
      (count) => count === 2,
    );
    // Only those of pods that are here, before any of their traffic.
    expect([...controller.requested].sort()).toEqual([uri('client'), uri('server')]);
    const held = (): string[] =>
      node1.ztunnel.context.certificates.view().map(({ identity }) => identity);
    expect(held()).toEqual([uri('client')]);
    const second = makePod('second', 20);
    try {
      await node1.enrol(second, 'client');
      await node1.agent.remove('uid-client', 'deleted');
      expect(held()).toEqual([uri('client')]);
      await node1.agent.remove('uid-second', 'deleted');
      expect(held()).toEqual([]);
      expect(controller.requested).toHaveLength(2);
    } finally {
      removePod(second);
    }
  });
});

describe('what changes while connections are open', () => {
  test('a policy that comes later cuts what it forbids and leaves the rest', async () => {
    const { client, server, plain, controller, node2 } = world;
    const captured = call(client, server.ip4, 8080);
    const outside = call(plain, server.ip4, 8080);
    captured.socket.write('a');
    outside.socket.write('a');
    await Promise.all([captured.received(8), outside.received(8)]);
    const began = performance.now();
    await tell(controller, {
      policies: [
        aPolicy({
          name: 'no-client',
          rules: [
            {
              from: [
                [
                  {
                    kind: 'connection',
                    attribute: 'source.principal',
                    values: [{ kind: 'exact', value: 'cluster.local/ns/test/sa/client' }],
                    notValues: [],
                  },
                ],
              ],
              to: [],
              when: [],
            },
          ],
        }),
      ],
    });
    expect(await captured.ended).toBe('ECONNRESET');
    expect(performance.now() - began).toBeLessThan(1_000);
    outside.socket.write('b');
    expect(await outside.received(9)).toBe('server\nab');
    outside.socket.destroy();
    expect(await call(client, server.ip4, 8080).ended).toBe('ECONNRESET');
    const refused = await eventually(
      () => node2.access.filter(({ message }) => message === 'connection denied'),
      ({ length }) => length >= 2,
    );
    for (const line of refused) expect(String(line['error'])).toContain('test/no-client');
  });

  test('STRICT cuts plain text that is open, and mutual TLS goes on', async () => {
    const { client, server, plain, controller } = world;
    const captured = call(client, server.ip4, 8080);
    const outside = call(plain, server.ip4, 8080);
    captured.socket.write('a');
    outside.socket.write('a');
    await Promise.all([captured.received(8), outside.received(8)]);
    await tell(controller, {
      workloads: [workloadOf(server, 'n2', { mtls: { mode: 'STRICT', ports: [] } })],
    });
    expect(await outside.ended).toBe('ECONNRESET');
    expect(await call(plain, server.ip4, 8080).ended).toBe('ECONNRESET');
    captured.socket.write('b');
    expect(await captured.received(9)).toBe('server\nab');
    captured.socket.destroy();
  });

  test('a pod that is released keeps its open connections and speaks in plain text from then on', async () => {
    const { client, server, node1, controller } = world;
    const open = call(client, server.ip4, 8080);
    open.socket.write('a');
    await open.received(8);
    await tell(controller, { workloads: [workloadOf(client, 'n1', { tunnel: 'none' })] });
    await node1.release(client);
    expect(await ask(client, server.ip4, 8080)).toBe('server');
    open.socket.write('b');
    expect(await open.received(9)).toBe('server\nab');
    open.socket.end();
    expect(await open.ended).toBe('end');
  });
});

describe('the controller away', () => {
  test('traffic goes on, a new pod waits, and all heals when it is back', async () => {
    const { client, server, controller, node1 } = world;
    expect(await ask(client, server.ip4, 8080)).toBe('server');
    await controller.goAway();
    expect(await ask(client, server.ip4, 8080)).toBe('server');
    const late = makePod('late', 21);
    try {
      await node1.enrol(late);
      const waiting = call(late, server.ip4, 8080);
      waiting.socket.write('a');
      const early = await Promise.race([
        waiting.received(1),
        new Promise((resolve) => setTimeout(() => resolve('nothing yet'), 500)),
      ]);
      expect(early).toBe('nothing yet');
      await controller.comeBack();
      await tell(controller, { workloads: [workloadOf(late, 'n1')] });
      await eventually(
        () => controller.connections,
        (count) => count === 2,
        15_000,
      );
      // It waited for what it needs, or was refused; it was never sent on without.
      const how = await Promise.race([waiting.received(8), waiting.ended]);
      expect(['server\na', 'ECONNRESET']).toContain(how);
      waiting.socket.destroy();
      expect(await ask(late, server.ip4, 8080)).toBe('server');
      expect(controller.hellos.at(-1)?.held.length).toBeGreaterThan(0);
    } finally {
      await node1.agent.remove('uid-late', 'deleted');
      removePod(late);
    }
  });

  test('a proxy that starts meanwhile goes on with its saved state and certificates', async () => {
    const { client, server, controller, node1 } = world;
    const directory = mkdtempSync(join(tmpdir(), 'ambit-saved-'));
    const stateFile = {
      path: join(directory, 'state'),
      keyPath: join(directory, 'key'),
      maxAgeMs: 60_000,
    };
    try {
      await node1.stop();
      const before = await startNode('n1', controller, { stateFile });
      await before.agent.add(enrolled(client, 'client'));
      expect(await ask(client, server.ip4, 8080)).toBe('server');
      await before.stop();
      const asked = controller.requested.length;
      await controller.goAway();
      const after = await startNode('n1', controller, { stateFile });
      try {
        await after.agent.add(enrolled(client, 'client'));
        expect(await ask(client, server.ip4, 8080)).toBe('server');
        expect(after.ztunnel.ready).toBe(true);
        expect(after.access.at(-1)).toMatchObject({ 'src.identity': uri('client') });
        const greeted = (): typeof controller.hellos =>
          controller.hellos.filter(({ node }) => node === 'n1');
        const greetings = greeted().length;
        await controller.comeBack();
        await eventually(
          () => greeted().length,
          (count) => count === greetings + 1,
          15_000,
        );
        // It says what it holds, and asks for no certificate that it has.
        const hello = greeted().at(-1);
        expect(hello?.held.find(({ type }) => type === 'workload')?.versions).toHaveLength(3);
        expect(controller.requested).toHaveLength(asked);
      } finally {
        await after.stop();
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('no certificate, no connection: it is refused, not sent in plain text', async () => {
    const { server, controller, node1 } = world;
    const late = makePod('late', 21);
    try {
      await tell(controller, { workloads: [workloadOf(late, 'n1')] });
      await controller.goAway();
      await node1.enrol(late);
      expect(await call(late, server.ip4, 8080).ended).toBe('ECONNRESET');
      expect(app.seen).toEqual([]);
      const [line] = await eventually(
        () => node1.access.filter((it) => it['src.workload'] === 'late'),
        ({ length }) => length === 1,
      );
      expect(String(line?.['error'])).toContain('certificate');
    } finally {
      await node1.agent.remove('uid-late', 'deleted');
      removePod(late);
      await controller.comeBack();
    }
  });
});

test('the agent away: pods stay, and are the same when it is back', async () => {
  const { client, server, node1 } = world;
  await node1.agent.close();
  expect(await ask(client, server.ip4, 8080)).toBe('server');
  expect(sh(`ip netns exec ${client.name} ss -tlnH`)).toContain(':15001');
});

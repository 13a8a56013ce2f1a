import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { DecodedUpdate, SpiffeIdentity, Upsert } from '@ambit/api';
import { makeSpiffeIdentity, parsePort, parseTrustDomain } from '@ambit/api';
import type { FakeController, FakeControllerOptions, TestCa } from '@ambit/testkit';
import { aWorkload, makeTestCa, startFakeController } from '@ambit/testkit';
import type { ControlClient, ControlClientOptions } from '../src/index.ts';
import { createLogger, createMeshState, startControlClient } from '../src/index.ts';

let ca: TestCa;
let controller: FakeController;
let client: ControlClient;
let states: string[];
let updates: DecodedUpdate[];
let mesh: ReturnType<typeof createMeshState>;

beforeEach(async () => {
  ca = await makeTestCa();
  states = [];
  updates = [];
  mesh = createMeshState();
});

afterEach(async () => {
  client.close();
  await controller.close();
});

async function start(
  options: Omit<FakeControllerOptions, 'ca'> = {},
  settings: Partial<ControlClientOptions> = {},
): Promise<void> {
  controller = await startFakeController({ ca, ...options });
  const port = parsePort(controller.port);
  if (!port.ok) throw new TypeError(port.error.message);
  client = startControlClient({
    address: { host: '127.0.0.1', port: port.value },
    tokenFile: controller.tokenFile,
    rootsFile: controller.rootsFile,
    program: 'ztunnel',
    node: 'n1',
    instance: 'ztunnel-1',
    logger: createLogger({
      scope: 'test',
      level: 'fatal',
      format: 'json',
      sink: { write: () => undefined },
    }),
    held: () => mesh.state.held(),
    onUpdate: (update) => {
      updates.push(update);
      mesh.updater.apply(update);
    },
    onConnection: (state) => void states.push(state),
    ...settings,
  });
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not so in time: ${holds.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function upsertOf(name: string, version = 'v1'): Upsert {
  const workload = aWorkload({ name });
  return { type: 'workload', name: workload.uid, version, resource: workload } as unknown as Upsert;
}

const identity = (): SpiffeIdentity => {
  const trustDomain = parseTrustDomain('cluster.local');
  const made = trustDomain.ok ? makeSpiffeIdentity(trustDomain.value, 'test', 'a') : trustDomain;
  if (!made.ok) throw new TypeError(made.error.message);
  return made.value;
};

describe('updates', () => {
  test('test_reconnect_echoes_retained_versions', async () => {
    await start();
    await controller.settled(1);
    await controller.push([upsertOf('a', 'v7'), upsertOf('b', 'v8')]);
    expect(controller.hellos).toHaveLength(1);
    expect(controller.hellos[0]?.held.every(({ versions }) => versions.length === 0)).toBe(true);
    controller.cut();
    await until(() => controller.hellos.length === 2);
    const held = controller.hellos[1]?.held.find(({ type }) => type === 'workload')?.versions;
    expect(held?.map(([, version]) => version).sort()).toEqual(['v7', 'v8']);
    await controller.settled(1);
    // Nothing that is held is sent again.
    await until(() => updates.length === 3);
    expect(updates[2]?.upserts).toEqual([]);
  });

  test('batch_partial_failure', async () => {
    await start();
    await controller.settled(1);
    const bad = { type: 'workload', name: 'bad', version: 'v1', resource: { uid: 7 } };
    await controller.push([upsertOf('a'), bad as unknown as Upsert, upsertOf('b')]);
    expect([...mesh.state.workloads()].map(({ name }) => name).sort()).toEqual(['a', 'b']);
    expect(controller.nacks).toHaveLength(1);
    expect(controller.nacks[0]?.rejected).toMatchObject([{ type: 'workload', name: 'bad' }]);
    expect(controller.nacks[0]?.rejected[0]?.reason).not.toBe('');
    expect(client.connected).toBe(true);
  });

  test('a frame that cannot be read ends the connection, and the next one makes up for it', async () => {
    await start();
    await controller.settled(1);
    await controller.push([upsertOf('a')]);
    controller.sendRaw('{"kind":"update"');
    await until(() => controller.hellos.length === 2 && client.connected);
    expect([...mesh.state.workloads()]).toHaveLength(1);
  });

  test('what the controller took away meanwhile is gone after reconnecting', async () => {
    await start();
    await controller.settled(1);
    await controller.push([upsertOf('a'), upsertOf('b')]);
    const gone = upsertOf('a').name;
    await controller.goAway();
    await controller.push([], [{ type: 'workload', name: gone }]);
    expect([...mesh.state.workloads()]).toHaveLength(2);
    await controller.comeBack();
    await until(() => [...mesh.state.workloads()].length === 1);
    expect([...mesh.state.workloads()][0]?.name).toBe('b');
  });
});

describe('the connection', () => {
  test('a token that was changed is used for the next connection', async () => {
    await start();
    await controller.settled(1);
    writeFileSync(controller.tokenFile, 'another-token\n');
    controller.cut();
    await until(() => controller.tokens.length === 2);
    expect(controller.tokens).toEqual(['a-token', 'another-token']);
  });

  test('says how it stands: connected, lost, unreachable, connected', async () => {
    await start();
    await controller.settled(1);
    await controller.goAway();
    await until(() => states.includes('unreachable'));
    await controller.comeBack();
    await until(() => states.at(-1) === 'connected');
    expect(states.filter((state, index) => state !== states[index - 1])).toEqual([
      'connected',
      'lost',
      'unreachable',
      'connected',
    ]);
  });

  test('a controller that another authority vouches for is never spoken to', async () => {
    const other = await makeTestCa();
    const directory = (await startFakeController({ ca: other })) satisfies FakeController;
    await start({}, { rootsFile: directory.rootsFile });
    await until(() => states.filter((state) => state === 'unreachable').length > 1);
    expect(controller.tokens).toEqual([]);
    await directory.close();
  });

  test('a file that is missing is waited for', async () => {
    await start({}, { tokenFile: '/nonexistent/token' });
    await until(() => states.filter((state) => state === 'unreachable').length > 1);
    expect(client.connected).toBe(false);
  });

  test('closed, it does not come back', async () => {
    await start();
    await controller.settled(1);
    client.close();
    await until(() => controller.connections === 0);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(controller.hellos).toHaveLength(1);
  });
});

describe('reports', () => {
  const problem = (message: string) =>
    [{ type: 'authentication', name: 'shop/jwt', field: 'spec', message }] as const;

  test('are sent when they change, once a second at most, and again to a controller that forgot', async () => {
    await start();
    client.report([]);
    client.report(problem('before'));
    await controller.settled(1);
    await until(() => controller.reports.length === 1);
    for (const message of ['a', 'b', 'c', 'c']) client.report(problem(message));
    await until(() => controller.reports.length === 2);
    expect(controller.reports.map((one) => one.problems[0]?.message)).toEqual(['before', 'c']);
    controller.cut();
    await until(() => controller.reports.length === 3);
    expect(controller.reports.at(-1)?.problems).toEqual(problem('c'));
    client.report([]);
    await until(() => controller.reports.length === 4);
    expect(controller.reports.at(-1)?.problems).toEqual([]);
  });
});

describe('certificates', () => {
  test('many at once each get their own answer', async () => {
    await start({
      sign: async ({ id, csr }) => {
        await new Promise((resolve) => setTimeout(resolve, (id * 7) % 13));
        return { chain: [csr], roots: [] };
      },
    });
    await controller.settled(1);
    const names = Array.from({ length: 40 }, (_, index) => `csr-${index}`);
    const signed = await Promise.all(
      names.map(async (csr) => client.requestCertificate(identity(), csr)),
    );
    expect(signed.map(({ chain }) => chain[0])).toEqual(names);
  });

  test('a refusal keeps its reason', async () => {
    await start({
      sign: () => Promise.resolve({ code: 'unauthenticated', message: 'no pod of it is here' }),
    });
    await controller.settled(1);
    await expect(client.requestCertificate(identity(), 'csr')).rejects.toMatchObject({
      code: 'control/certificate-unauthenticated',
      message: 'no pod of it is here',
    });
  });

  test('asked while the controller is away, it fails at once', async () => {
    await start();
    await controller.settled(1);
    await controller.goAway();
    await until(() => !client.connected);
    await expect(client.requestCertificate(identity(), 'csr')).rejects.toMatchObject({
      code: 'control/disconnected',
    });
    await controller.comeBack();
  });

  test('a question whose connection is lost fails, it does not hang', async () => {
    await start({ sign: () => new Promise(() => undefined) });
    await controller.settled(1);
    const asked = client.requestCertificate(identity(), 'csr');
    const outcome = expect(asked).rejects.toMatchObject({ code: 'control/disconnected' });
    await until(() => controller.requested.length === 1);
    controller.cut();
    await outcome;
  });
});

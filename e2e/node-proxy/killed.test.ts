import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { PacketCapture } from '@ambit/core';
import { capturePackets, causeChain, warmThreadpool } from '@ambit/core';
import type { FakeAgent, FakeController } from '@ambit/testkit';
import { makeTestCa, startFakeAgent, startFakeController } from '@ambit/testkit';
import { tell, tellMesh, workloadOf } from '../support/mesh.ts';
import { enrolled, eventually } from '../support/node.ts';
import type { App, Pod } from '../support/pods.ts';
import { ask, call, capture, makeNetwork, makePod, removePod, serve } from '../support/pods.ts';

/** A proxy that is a process of its own dies by SIGKILL: nothing of its pods leaves in plain text, and all comes back. */
const directory = mkdtempSync(join(tmpdir(), 'ambit-killed-'));
let controller: FakeController;
let agents: FakeAgent[];
let client: Pod;
let server: Pod;
let removeNetwork: () => void;
let app: App;
let watch: PacketCapture | undefined;
let victim: ChildProcess;
let other: ChildProcess;

beforeAll(async () => {
  await warmThreadpool();
  removeNetwork = makeNetwork();
  client = makePod('client', 1);
  server = makePod('server', 2);
  const ca = await makeTestCa();
  controller = await startFakeController({ ca });
  await tellMesh(controller, [ca.rootPem]);
  await tell(controller, { workloads: [workloadOf(client, 'n1'), workloadOf(server, 'n2')] });
  agents = [await startFakeAgent(), await startFakeAgent()];
  await agents[0]?.add(enrolled(client, 'client'));
  await agents[1]?.add(enrolled(server, 'server'));
  victim = startProxy('n1', agents[0]);
  other = startProxy('n2', agents[1]);
  await Promise.all(agents.map((agent) => agent.ready()));
  capture(client);
  capture(server);
  app = serve(server, 8080);
}, 60_000);

afterAll(async () => {
  watch?.stop();
  app.close();
  victim.kill('SIGKILL');
  other.kill('SIGKILL');
  for (const agent of agents) await agent.close();
  await controller.close();
  for (const pod of [client, server]) removePod(pod);
  removeNetwork();
  rmSync(directory, { recursive: true });
});

function startProxy(node: string, agent: FakeAgent | undefined): ChildProcess {
  const main = join(dirname(fileURLToPath(import.meta.url)), '../../packages/ztunnel/src/main.ts');
  const base = node === 'n1' ? 21000 : 22000;
  return spawn(process.execPath, ['--conditions=mesh-source', main], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: {
      PATH: '/usr/bin:/bin',
      NODE_NAME: node,
      CONTROLLER_ADDRESS: `127.0.0.1:${controller.port}`,
      TOKEN_FILE: controller.tokenFile,
      ROOTS_FILE: controller.rootsFile,
      ZTUNNEL_AGENT_SOCKET: agent?.path ?? '',
      ADMIN_PORT: String(base),
      METRICS_PORT: String(base + 1),
      READINESS_PORT: String(base + 2),
    },
  });
}

test('killed: no plain text, no call gets through, and everything is back with the process', async () => {
  const secret = 'nobody-may-read-this-in-clear';
  const seen: Buffer[] = [];
  watch = capturePackets(server.netns.fd, 'eth0', (frame) => void seen.push(frame));
  expect(await ask(client, server.ip4, 8080, secret)).toBe('server');
  const open = call(client, server.ip4, 8080);
  open.socket.write(secret);
  await open.received(secret.length + 7);
  const gone = once(victim, 'exit');
  victim.kill('SIGKILL');
  // A cut connection is not a whole one.
  expect(await open.ended).toBe('ECONNRESET');
  // Its sockets close one after another: until the last has, a call may be taken and then reset.
  await gone;
  const before = app.seen.length;
  for (let index = 0; index < 20; index += 1) {
    const refused = call(client, server.ip4, 8080);
    refused.socket.write(secret);
    expect(await refused.ended).toBe('ECONNREFUSED');
  }
  expect(app.seen).toHaveLength(before);
  victim = startProxy('n1', agents[0]);
  await eventually(
    () => ask(client, server.ip4, 8080, secret).catch((error: unknown) => causeChain(error)),
    (answer) => answer === 'server',
    10_000,
  );
  watch.stop();
  expect(seen.length).toBeGreaterThan(20);
  expect(seen.filter((packet) => packet.includes(secret))).toEqual([]);
});

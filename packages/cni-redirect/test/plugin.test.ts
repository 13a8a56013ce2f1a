import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import type { Server } from 'node:http';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

const main = fileURLToPath(new URL('../src/plugin/main.ts', import.meta.url));
const node = fileURLToPath(new URL('../../../node_modules/.bin/node', import.meta.url));
let root: string;
let server: Server | undefined;
let answer: { status: number; text: string };
const asked: { path: string; body: unknown }[] = [];

interface Run {
  readonly status: number | null;
  readonly out: Readonly<Record<string, unknown>> | undefined;
}

function run(command: string, config: unknown, env: Record<string, string> = {}): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(node, ['--conditions=mesh-source', main], {
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: 'c1',
        CNI_NETNS: '/var/run/netns/cni-1',
        CNI_IFNAME: 'eth0',
        CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;K8S_POD_UID=u-1',
        CNI_PATH: '/opt/cni/bin',
        ...env,
      },
    });
    let out = '';
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    child.on('error', reject);
    child.on('close', (status) =>
      resolve({ status, out: out === '' ? undefined : (JSON.parse(out) as Run['out']) }),
    );
    child.stdin.end(typeof config === 'string' ? config : JSON.stringify(config));
  });
}

const prevResult = {
  interfaces: [{ name: 'veth1' }, { name: 'eth0', sandbox: '/var/run/netns/cni-1' }],
  ips: [{ address: '10.0.0.7/24', gateway: '10.0.0.1', interface: 1 }],
  routes: [{ dst: '0.0.0.0/0' }],
  dns: {},
};
const config = (version: string, change: object = {}): object => ({
  cniVersion: version,
  name: 'main',
  type: 'ambit-cni',
  agentSocket: join(root, 'agent.sock'),
  excludeNamespaces: ['kube-system'],
  prevResult: { cniVersion: version, ...prevResult },
  ...change,
});

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'cni-plugin-'));
  answer = { status: 200, text: 'enrolled' };
  asked.length = 0;
  await listen();
});

async function listen(): Promise<void> {
  const listening = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk: Buffer) => (text += chunk.toString()));
    request.on('end', () => {
      asked.push({ path: request.url ?? '', body: text === '' ? undefined : JSON.parse(text) });
      response.writeHead(answer.status).end(answer.text);
    });
  });
  await new Promise<void>((resolve) => listening.listen(join(root, 'agent.sock'), resolve));
  server = listening;
}

afterEach(async () => {
  await closeServer();
  rmSync(root, { recursive: true });
});

async function closeServer(): Promise<void> {
  const closing = server;
  server = undefined;
  closing?.closeAllConnections();
  await new Promise<void>((resolve) =>
    closing === undefined ? resolve() : closing.close(() => resolve()),
  );
}

describe.each(['0.3.1', '0.4.0', '1.0.0', '1.1.0'])('specification %s', (version) => {
  test('ADD asks the agent and passes the result on', async () => {
    const { status, out } = await run('ADD', config(version));
    expect(out).toEqual({ cniVersion: version, ...prevResult });
    expect(status).toBe(0);
    expect(asked).toEqual([
      {
        path: '/cmdadd',
        body: {
          Netns: '/var/run/netns/cni-1',
          PodName: 'cart',
          PodNamespace: 'shop',
          PodUID: 'u-1',
          ContainerID: 'c1',
          IPs: [{ Interface: '1', Address: '10.0.0.7/24', Gateway: '10.0.0.1' }],
        },
      },
    ]);
  });

  test('ADD fails with the agent’s reason', async () => {
    answer = { status: 503, text: 'pod shop/cart cannot join the mesh: no ztunnel is connected' };
    const { status, out } = await run('ADD', config(version));
    expect(status).toBe(1);
    expect(out).toMatchObject({ cniVersion: version, code: 100, msg: answer.text });
  });

  test('DEL succeeds', async () => {
    expect(await run('DEL', config(version))).toEqual({ status: 0, out: undefined });
  });

  test('CHECK asks the agent whether the pod is as it should be', async () => {
    expect(await run('CHECK', config(version))).toEqual({ status: 0, out: undefined });
    expect(asked).toMatchObject([{ path: '/cmdcheck', body: { PodName: 'cart', PodUID: 'u-1' } }]);
    answer = { status: 503, text: 'it is to be in the mesh and is not captured' };
    const { status, out } = await run('CHECK', config(version));
    expect(status).toBe(1);
    expect(out).toMatchObject({ code: 100, msg: answer.text });
  });
});

test('ADD waits for the next agent while one hands its node over', async () => {
  await closeServer();
  const added = run('ADD', config('1.1.0'));
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const gone = createServer((request) => request.socket.destroy());
  await new Promise<void>((resolve) => gone.listen(join(root, 'agent.sock'), resolve));
  await new Promise((resolve) => setTimeout(resolve, 500));
  await new Promise((resolve) => gone.close(resolve));
  await listen();
  expect((await added).status).toBe(0);
  expect(asked).toHaveLength(1);
});

test('ADD without an agent fails, and says what to do', async () => {
  await closeServer();
  const { status, out } = await run('ADD', config('1.1.0'));
  expect(status).toBe(1);
  expect(out).toMatchObject({ code: 11 });
  expect(out?.['msg']).toContain('cannot be reached');
  expect(out?.['details']).toContain('cni-redirect agent');
});

test('ADD says the number of the namespace, whose path the agent may not see', async () => {
  const path = `/proc/${process.pid}/ns/net`;
  await run('ADD', config('1.0.0'), { CNI_NETNS: path });
  const { ino } = statSync(path, { bigint: true });
  expect(asked).toMatchObject([{ body: { Netns: path, NetnsInode: String(ino) } }]);
});

test('DEL and GC succeed without an agent', async () => {
  await closeServer();
  expect(await run('DEL', config('1.1.0'))).toEqual({ status: 0, out: undefined });
  expect(await run('GC', config('1.1.0'))).toEqual({ status: 0, out: undefined });
});

test('STATUS holds back no pod, since ADD does', async () => {
  await closeServer();
  expect(await run('STATUS', config('1.1.0'))).toEqual({ status: 0, out: undefined });
});

test('an excluded namespace passes without an agent', async () => {
  await closeServer();
  const args = 'K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns';
  const { status, out } = await run('ADD', config('1.0.0'), { CNI_ARGS: args });
  expect(status).toBe(0);
  expect(out).toEqual({ cniVersion: '1.0.0', ...prevResult });
});

test('VERSION needs no configuration', async () => {
  expect(await run('VERSION', '')).toEqual({
    status: 0,
    out: { cniVersion: '1.1.0', supportedVersions: ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] },
  });
});

test.each<[string, string, () => unknown, number]>([
  ['a version that nobody speaks', 'ADD', () => config('9.0.0'), 1],
  ['no version', 'ADD', () => ({ ...config('1.0.0'), cniVersion: undefined }), 1],
  ['no JSON', 'ADD', () => '{', 6],
  ['no socket', 'ADD', () => config('1.0.0', { agentSocket: '' }), 7],
  ['no result before it', 'ADD', () => config('1.0.0', { prevResult: undefined }), 7],
  ['a command that is none', 'JUMP', () => config('1.0.0'), 4],
])('%s is refused', async (_, command, input, code) => {
  const { status, out } = await run(command, input());
  expect(status).toBe(1);
  expect(out).toMatchObject({ code });
  expect(asked).toEqual([]);
});

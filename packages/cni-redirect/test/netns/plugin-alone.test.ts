import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createLogger } from '@ambit/core';
import { install } from '../../src/install/install.ts';

const clone = fileURLToPath(new URL('../../../..', import.meta.url));
const node = join(clone, 'node_modules/.bin/node');
const logger = createLogger({ scope: 'test', level: 'warn', format: 'text' });
let work: string;
/** The root file system of a host that has nothing but the kernel's /proc. */
let host: string;
let agent: Server;
const asked: (string | undefined)[] = [];
const conflist = JSON.stringify({
  cniVersion: '0.3.1',
  name: 'net',
  plugins: [{ type: 'bridge' }],
});

function options(change: object = {}): Parameters<typeof install>[0] {
  return {
    confDir: join(host, 'etc/cni/net.d'),
    binDir: join(host, 'opt/cni/bin'),
    binDirOnHost: '/opt/cni/bin',
    cacheDir: join(host, 'var/lib/cni'),
    pluginSource: join(work, 'plugin/ambit-cni'),
    agentSocket: '/run/agent.sock',
    excludeNamespaces: ['kube-system'],
    logger,
    ...change,
  };
}

beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), 'plugin-alone-'));
  host = join(work, 'host');
  for (const path of ['proc', 'run', 'etc/cni/net.d', 'opt/cni/bin'])
    mkdirSync(join(host, path), { recursive: true });
  execFileSync('mount', ['-t', 'proc', 'proc', join(host, 'proc')]);
  writeFileSync(join(host, 'etc/cni/net.d/10-net.conflist'), conflist);
  writeFileSync(join(host, 'opt/cni/bin/bridge'), '', { mode: 0o755 });
  execFileSync(node, [join(clone, 'scripts/plugin.mjs'), join(work, 'plugin')]);
  agent = createServer((request, response) => {
    request.resume();
    asked.push(request.url);
    response.end('enrolled');
  });
  await new Promise<void>((resolve) => agent.listen(join(host, 'run/agent.sock'), resolve));
}, 300_000);

afterAll(async () => {
  await new Promise((resolve) => agent.close(resolve));
  execFileSync('umount', [join(host, 'proc')]);
  rmSync(work, { recursive: true });
});

interface Called {
  readonly status: number | null;
  readonly out: string;
  readonly error: string;
}

function call(command: string, config: object): Promise<Called> {
  const child = spawn('chroot', [host, '/opt/cni/bin/ambit-cni'], {
    env: {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      CNI_COMMAND: command,
      CNI_NETNS: '/run/netns/x',
      CNI_ARGS: 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart',
      // What a runtime may have in its environment must not change what the plugin does.
      NODE_OPTIONS: '--version',
    },
  });
  let out = '';
  let error = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (error += chunk.toString()));
  child.stdin.end(JSON.stringify(config));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, out, error }));
  });
}

test('runs on a host that has neither Node nor libraries nor a shell', async () => {
  const installation = await install(options());
  installation.close();
  expect(installation.missing).toBeUndefined();
  const prevResult = { cniVersion: '0.3.1', ips: [{ version: '4', address: '10.0.0.7/24' }] };
  const config = { cniVersion: '0.3.1', name: 'net', type: 'ambit-cni', prevResult };
  expect(await call('ADD', { ...config, agentSocket: '/run/agent.sock' })).toEqual({
    status: 0,
    out: JSON.stringify(prevResult),
    error: '',
  });
  expect(asked).toEqual(['/cmdadd']);
  const refused = await call('ADD', { ...config, agentSocket: '/run/nobody.sock' });
  expect(refused).toMatchObject({ status: 1, error: '' });
  expect(JSON.parse(refused.out)).toMatchObject({ code: 11 });
});

test('is refused by a read-only directory, which the reason names with its setting', async () => {
  const readOnly = join(work, 'read-only');
  mkdirSync(readOnly);
  const mount = (file: string): void => {
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', readOnly]);
    writeFileSync(join(readOnly, file), conflist, { mode: 0o755 });
    // Of the mount and not of the file system, which an ordinary user's world may not change.
    execFileSync('mount', ['-o', 'remount,bind,ro', readOnly]);
  };
  mount('bridge');
  try {
    const noBin = await install(options({ binDir: readOnly }));
    noBin.close();
    expect(noBin.missing).toMatch(/\(CNI_BIN_DIR\) cannot be written: .*read-only/);
    execFileSync('umount', [readOnly]);
    mount('10-net.conflist');
    const noConf = await install(options({ confDir: readOnly }));
    noConf.close();
    expect(noConf.missing).toMatch(/\(CNI_CONF_DIR\) cannot be written: .*read-only/);
  } finally {
    execFileSync('umount', [readOnly]);
  }
});

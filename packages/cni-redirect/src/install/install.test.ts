import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createLogger } from '@ambit/core';
import type { Installation, InstallOptions } from './install.ts';
import { install } from './install.ts';

let root: string;
let installation: Installation | undefined;
const logs: string[] = [];
const confDir = (): string => join(root, 'net.d');
const binDir = (): string => join(root, 'bin');
const conf = (name: string): string => join(confDir(), name);

const bridge = { cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'bridge' }] };

function put(name: string, content: unknown): void {
  const text = typeof content === 'string' ? content : JSON.stringify(content);
  writeFileSync(conf(name), text, { mode: 0o644 });
}

function types(name: string): string {
  const list = JSON.parse(readFileSync(conf(name), 'utf8')) as { plugins: { type: string }[] };
  return list.plugins.map(({ type }) => type).join();
}

async function start(change: Partial<InstallOptions> = {}): Promise<Installation> {
  installation?.close();
  installation = await install({
    confDir: confDir(),
    binDir: binDir(),
    binDirOnHost: '/opt/cni/bin',
    cacheDir: join(root, 'cache'),
    pluginSource: join(root, 'image/ambit-cni'),
    agentSocket: '/run/agent.sock',
    excludeNamespaces: ['kube-system'],
    logger: createLogger({
      scope: 'test',
      level: 'debug',
      format: 'text',
      sink: { write: (line) => logs.push(line) },
    }),
    ...change,
  });
  return installation;
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`never so\n${logs.join('')}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The network's own plugins, where the runtime looks for them. */
function putPlugins(...names: string[]): void {
  mkdirSync(binDir(), { recursive: true });
  for (const name of names) writeFileSync(join(binDir(), name), '', { mode: 0o755 });
}

const ownFiles = (): string[] =>
  readdirSync(binDir())
    .filter((name) => name.startsWith('ambit'))
    .sort();

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'install-'));
  mkdirSync(confDir());
  putPlugins('bridge', 'ptp');
  mkdirSync(join(root, 'image/ambit-cni.lib-1'), { recursive: true });
  writeFileSync(join(root, 'image/ambit-cni'), 'plugin 1');
  writeFileSync(join(root, 'image/ambit-cni.lib-1/libc.so.6'), 'libc');
  logs.length = 0;
});

afterEach(() => {
  installation?.close();
  installation = undefined;
  rmSync(root, { recursive: true });
});

describe('the configuration', () => {
  test('is awaited, and chained once it is there', async () => {
    const { missing } = await start();
    expect(missing).toContain('there is none yet');
    put('10-net.conflist', bridge);
    await until(() => installation?.missing === undefined);
    expect(types('10-net.conflist')).toBe('bridge,ambit-cni');
    expect(statSync(conf('10-net.conflist')).mode & 0o777).toBe(0o644);
  });

  test('is the first by name', async () => {
    put('20-other.conflist', bridge);
    put('10-net.conflist', bridge);
    put('05-notes.txt', 'not ours');
    await start();
    expect(types('10-net.conflist')).toBe('bridge,ambit-cni');
    expect(types('20-other.conflist')).toBe('bridge');
  });

  test('that comes before the chained one is chained too', async () => {
    put('20-other.conflist', bridge);
    await start();
    put('10-net.conflist', bridge);
    await until(() => types('10-net.conflist') === 'bridge,ambit-cni');
  });

  test('is chained again when its owner rewrites it', async () => {
    put('10-net.conflist', bridge);
    await start();
    put('10-net.conflist', { ...bridge, plugins: [{ type: 'ptp' }, { type: 'portmap' }] });
    await until(() => types('10-net.conflist') === 'ptp,portmap,ambit-cni');
    writeFileSync(conf('new'), JSON.stringify(bridge));
    renameSync(conf('new'), conf('10-net.conflist'));
    await until(() => types('10-net.conflist') === 'bridge,ambit-cni');
  });

  test('that is half written is told, and chained once it is whole', async () => {
    put('10-net.conflist', JSON.stringify(bridge).slice(0, 30));
    const { missing } = await start();
    expect(missing).toContain('10-net.conflist: it is no JSON');
    put('10-net.conflist', bridge);
    await until(() => installation?.missing === undefined);
  });

  test('that cannot be chained says what to change', async () => {
    put('10-net.conflist', { ...bridge, cniVersion: '0.2.0' });
    expect((await start()).missing).toContain('chaining begins with 0.3.0');
    expect(types('10-net.conflist')).toBe('bridge');
  });

  test('of a single plugin becomes a list, and comes back', async () => {
    const single = { cniVersion: '0.3.1', name: 'net', type: 'ptp', mtu: 1400 };
    put('10-net.conf', single);
    const running = await start();
    expect(readdirSync(confDir())).toEqual(['10-net.conflist']);
    expect(types('10-net.conflist')).toBe('ptp,ambit-cni');
    await running.uninstall();
    expect(readdirSync(confDir())).toEqual(['10-net.conf']);
    expect(JSON.parse(readFileSync(conf('10-net.conf'), 'utf8'))).toEqual(single);
  });

  test('in a directory that may not be read says so, with what to do', async () => {
    // Root reads everything: a file in the directory's place fails for root too.
    rmSync(confDir(), { recursive: true });
    writeFileSync(confDir(), '');
    expect((await start()).missing).toContain('ENOTDIR');
    rmSync(confDir());
    mkdirSync(confDir());
    put('10-net.conflist', bridge);
    await until(() => installation?.missing === undefined);
  });
});

describe('a directory in which the runtime does not look for plugins', () => {
  const chain = { ...bridge, plugins: [{ type: 'bridge' }, { type: 'portmap' }] };

  beforeEach(() => rmSync(binDir(), { recursive: true }));

  test('gets nothing and is chained into nothing, until the other plugins are there', async () => {
    put('10-net.conflist', chain);
    mkdirSync(binDir());
    const { missing } = await start();
    expect(missing).toContain(
      '10-net.conflist: of its plugins bridge, portmap none is in /opt/cni/bin',
    );
    expect(missing).toContain('set cniBinDir (CNI_BIN_DIR)');
    expect(types('10-net.conflist')).toBe('bridge,portmap');
    expect(readdirSync(binDir())).toEqual([]);
    putPlugins('bridge');
    await until(() => installation?.missing === undefined);
    expect(types('10-net.conflist')).toBe('bridge,portmap,ambit-cni');
  });

  test('is not one that has one of them: runtimes may have several', async () => {
    put('10-net.conflist', chain);
    putPlugins('portmap');
    expect((await start()).missing).toBeUndefined();
    expect(types('10-net.conflist')).toBe('bridge,portmap,ambit-cni');
  });

  test('is not one of links that lead out of what the agent sees, as k3s has', async () => {
    put('10-net.conflist', chain);
    mkdirSync(binDir());
    symlinkSync('/var/lib/rancher/k3s/data/0123/bin/cni', join(binDir(), 'bridge'));
    expect((await start()).missing).toBeUndefined();
  });

  test('is one whose file of that name cannot be run', async () => {
    put('10-net.conflist', bridge);
    mkdirSync(binDir());
    writeFileSync(join(binDir(), 'bridge'), '', { mode: 0o644 });
    expect((await start()).missing).toContain('its plugin bridge is not in /opt/cni/bin');
  });

  test('leaves a chain alone that has the plugin already: new pods wait and do not start outside the mesh', async () => {
    put('10-net.conflist', { ...chain, plugins: [...chain.plugins, { type: 'ambit-cni' }] });
    expect((await start()).missing).toContain('none is in /opt/cni/bin');
    expect(types('10-net.conflist')).toBe('bridge,portmap,ambit-cni');
  });
});

describe('the plugin', () => {
  test('is installed with its libraries', async () => {
    put('10-net.conflist', bridge);
    await start();
    expect(ownFiles()).toEqual(['ambit-cni', 'ambit-cni.lib-1']);
    expect(statSync(join(binDir(), 'ambit-cni')).mode & 0o777).toBe(0o755);
    expect(readFileSync(join(binDir(), 'ambit-cni.lib-1/libc.so.6'), 'utf8')).toBe('libc');
  });

  test('is put back when somebody removes it or one of its libraries', async () => {
    put('10-net.conflist', bridge);
    await start();
    rmSync(join(binDir(), 'ambit-cni'));
    await until(() => existsSync(join(binDir(), 'ambit-cni')));
    rmSync(join(binDir(), 'ambit-cni.lib-1'), { recursive: true });
    await until(() => existsSync(join(binDir(), 'ambit-cni.lib-1/libc.so.6')));
  });

  test('of a new version replaces the old one', async () => {
    put('10-net.conflist', bridge);
    await start();
    renameSync(join(root, 'image/ambit-cni.lib-1'), join(root, 'image/ambit-cni.lib-2'));
    writeFileSync(join(root, 'image/ambit-cni'), 'plugin 2');
    await start();
    expect(readFileSync(join(binDir(), 'ambit-cni'), 'utf8')).toBe('plugin 2');
    expect(ownFiles()).toEqual(['ambit-cni', 'ambit-cni.lib-2']);
  });

  test('leaves nothing behind, and others’ files alone', async () => {
    put('10-net.conflist', bridge);
    put('20-old.conflist', { ...bridge, plugins: [{ type: 'ptp' }, { type: 'ambit-cni' }] });
    await (await start()).uninstall();
    expect(readdirSync(binDir()).sort()).toEqual(['bridge', 'ptp']);
    expect(JSON.parse(readFileSync(conf('10-net.conflist'), 'utf8'))).toEqual(bridge);
    expect(types('20-old.conflist')).toBe('ptp');
  });

  test('stays chained when the agent stops for a while', async () => {
    put('10-net.conflist', bridge);
    (await start()).close();
    expect(types('10-net.conflist')).toBe('bridge,ambit-cni');
    expect(existsSync(join(binDir(), 'ambit-cni'))).toBe(true);
  });

  test('that is missing in the image is told and does not end the agent', async () => {
    put('10-net.conflist', bridge);
    rmSync(join(root, 'image/ambit-cni'));
    expect((await start()).missing).toContain('ENOENT');
    expect(types('10-net.conflist')).toBe('bridge');
  });
});

test('a single plugin takes no list of its name away, and comes back as it was', async () => {
  put('10-net.conf', { cniVersion: '1.0.0', name: 'single', type: 'ptp' });
  put('10-net.conflist', { ...bridge, name: 'other' });
  const running = await start();
  expect(readdirSync(confDir()).sort()).toEqual(['10-net.ambit.conflist', '10-net.conflist']);
  expect([types('10-net.ambit.conflist'), types('10-net.conflist')]).toEqual([
    'ptp,ambit-cni',
    'bridge',
  ]);
  await running.uninstall();
  expect(readdirSync(confDir()).sort()).toEqual(['10-net.conf', '10-net.conflist']);
  expect(types('10-net.conflist')).toBe('bridge');
});

test('what is kept of pods that run names a plugin no longer that is gone, and else is as it was', async () => {
  const kept = (types: readonly string[], more: object = {}): string => {
    const config = { ...bridge, plugins: types.map((type) => ({ type })) };
    return JSON.stringify({
      kind: 'cniCacheV1',
      containerId: 'c',
      config: Buffer.from(JSON.stringify(config)).toString('base64'),
      ...more,
    });
  };
  const file = (name: string): string => join(root, 'cache/results', name);
  mkdirSync(join(root, 'cache/results'), { recursive: true });
  const result = { cniVersion: '1.0.0', ips: [{ address: '10.0.0.1/24' }] };
  const files = {
    'net-ours-eth0': kept(['bridge', 'portmap', 'ambit-cni'], { result }),
    'net-before-eth0': `${kept(['bridge'])}\n`,
    'net-old-eth0': '{"cniVersion":"0.3.1"}',
    'net-broken-eth0': '{',
  };
  for (const [name, text] of Object.entries(files))
    writeFileSync(file(name), text, { mode: 0o600 });
  put('10-net.conflist', bridge);
  await (await start()).uninstall();
  expect(readdirSync(join(root, 'cache'))).toEqual(['results']);
  expect(readFileSync(file('net-ours-eth0'), 'utf8')).toBe(kept(['bridge', 'portmap'], { result }));
  expect(statSync(file('net-ours-eth0')).mode & 0o777).toBe(0o600);
  for (const name of ['net-before-eth0', 'net-old-eth0', 'net-broken-eth0'] as const)
    expect(readFileSync(file(name), 'utf8')).toBe(files[name]);
});

test('a single plugin that its owner writes anew, as Multus does, is chained again, and the newest comes back', async () => {
  const single = { cniVersion: '1.0.0', name: 'net', type: 'ptp' };
  put('00-net.conf', { ...single, mtu: 1 });
  const running = await start();
  for (const mtu of [2, 3]) {
    put('00-net.conf', { ...single, mtu });
    await until(() => !existsSync(conf('00-net.conf')));
    expect(readdirSync(confDir())).toEqual(['00-net.conflist']);
    expect(JSON.parse(readFileSync(conf('00-net.conflist'), 'utf8'))).toMatchObject({
      plugins: [
        { type: 'ptp', mtu },
        { type: 'ambit-cni', replaces: '00-net.conf' },
      ],
    });
  }
  await running.uninstall();
  expect(readdirSync(confDir())).toEqual(['00-net.conf']);
  expect(JSON.parse(readFileSync(conf('00-net.conf'), 'utf8'))).toEqual({ ...single, mtu: 3 });
});

test('what cannot be read beside the configuration in use keeps nobody from chaining', async () => {
  put('10-net.conflist', bridge);
  mkdirSync(conf('99-backup.conf'));
  symlinkSync('/nowhere', conf('99-old.conflist'));
  await start();
  expect(installation?.missing).toBeUndefined();
  expect(types('10-net.conflist')).toBe('bridge,ambit-cni');
});

test('what is taken away in the moment in which it is installed comes back, too', async () => {
  put('10-net.conflist', bridge);
  await start();
  const library = join(binDir(), 'ambit-cni.lib-1');
  let taken = 0;
  const watched = watch(binDir(), (_event, name) => {
    // Between the executable and the look at what was installed.
    if (name !== 'ambit-cni' || !existsSync(join(binDir(), name)) || taken > 0) return;
    taken += 1;
    rmSync(library, { recursive: true });
  });
  rmSync(join(binDir(), 'ambit-cni'));
  await until(() => taken > 0);
  watched.close();
  await until(() => existsSync(join(library, 'libc.so.6')));
}, 15_000);

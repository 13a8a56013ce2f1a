import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';

interface Layer {
  readonly data: Buffer;
  readonly digest: string;
}

interface Images {
  imageNames(): string[];
  baseLayer(): Layer;
  imageOf(name: string, tag: string, base: Layer): { archive: Buffer; digest: string };
}

interface Config {
  readonly config: {
    readonly User: string;
    readonly Entrypoint?: readonly string[];
    readonly WorkingDir: string;
    readonly Env: readonly string[];
  };
}

const root = fileURLToPath(new URL('../..', import.meta.url));
const work = mkdtempSync(join(tmpdir(), 'ambit-images-'));
let images: Images;
let base: Layer;

beforeAll(async () => {
  for (const script of ['bundle.mjs', 'plugin.mjs'])
    execFileSync(process.execPath, [join(root, 'scripts', script)], { cwd: root });
  images = (await import(join(root, 'scripts/images.mjs'))) as Images;
  base = images.baseLayer();
}, 120_000);

afterAll(() => {
  rmSync(work, { recursive: true, force: true });
});

/** Unpacks an archive and its layers, as a container runtime does. */
function unpack(name: string): { readonly folder: string; readonly config: Config } {
  const archive = join(work, `${name}.tar`);
  const layout = join(work, `${name}-layout`);
  const folder = join(work, `${name}-root`);
  mkdirSync(layout);
  mkdirSync(folder);
  writeFileSync(archive, images.imageOf(name, 'test', base).archive);
  execFileSync('tar', ['-xf', archive, '-C', layout]);
  const [manifest] = JSON.parse(readFileSync(join(layout, 'manifest.json'), 'utf8')) as {
    Config: string;
    Layers: string[];
    RepoTags: string[];
  }[];
  expect(manifest!.RepoTags).toEqual([`ambit/${name}:test`]);
  for (const layer of manifest!.Layers) {
    execFileSync('tar', ['-xf', join(layout, layer), '-C', folder]);
  }
  const config = JSON.parse(readFileSync(join(layout, manifest!.Config), 'utf8')) as Config;
  rmSync(archive);
  rmSync(layout, { recursive: true });
  return { folder, config };
}

/** Runs a command with nothing but the image's files. */
function runIn(
  folder: string,
  { config }: Config,
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
): { readonly status: number | null; readonly output: string } {
  const inside = ['/usr/sbin/chroot', folder, ...command];
  const asUser = process.getuid?.() === 0 ? [] : ['unshare', '--user', '--map-root-user'];
  const [program = '', ...args] = [...asUser, ...inside];
  const path = /^PATH=(.*)$/.exec(config.Env[0] ?? '')?.[1] ?? '';
  const run = spawnSync(program, args, {
    encoding: 'utf8',
    env: { PATH: path, ...env },
    timeout: 15_000,
  });
  return { status: run.status, output: `${run.stdout}${run.stderr}` };
}

describe('an image has all that its program needs', () => {
  test.each([
    ['controller', { CERTIFICATE_TTL: '1s' }, /CERTIFICATE_TTL: must be at least 1m/],
    ['waypoint', {}, /GATEWAY_NAME: is not set/],
    ['ztunnel', {}, /NODE_NAME: is not set/],
    ['cni-redirect', {}, /NODE_NAME: is not set/],
  ])('%s starts and reads its settings', (name, env, said) => {
    const { folder, config } = unpack(name);
    const { status, output } = runIn(folder, config, config.config.Entrypoint ?? [], env);
    expect(output).toMatch(said);
    expect(status).not.toBe(0);
    if (name === 'cni-redirect') {
      expect(runIn(folder, config, ['nft', '--version']).output).toContain('nftables');
      expect(runIn(folder, config, ['ip', '-V']).output).toContain('iproute2');
      const plugin = join(folder, 'opt/ambit/bin/ambit-cni');
      expect(statSync(plugin).mode & 0o111).toBe(0o111);
    }
    rmSync(folder, { recursive: true });
  });

  test('the samples have node, curl and a shell', () => {
    const { folder, config } = unpack('samples');
    const script = 'node --version && curl --version && ls shop && touch /tmp/a && rm -f /tmp/a';
    const command = ['/bin/sh', '-c', `cd ${config.config.WorkingDir} && ${script}`];
    const { status, output } = runIn(folder, config, command);
    expect(output).toMatch(/^v26.*curl \d.*frontend\.mjs/s);
    expect(status).toBe(0);
    rmSync(folder, { recursive: true });
  });
});

test('the same input gives the same image', () => {
  const digest = (): string => images.imageOf('controller', 'test', images.baseLayer()).digest;
  expect(digest()).toBe(digest());
});

test('what needs no privilege runs as an ordinary user', () => {
  const user = (name: string): string | undefined =>
    /^USER (\S+)$/m.exec(readFileSync(join(root, 'images', name, 'Dockerfile'), 'utf8'))?.[1];
  expect(Object.fromEntries(images.imageNames().map((name) => [name, user(name)]))).toEqual({
    'cni-redirect': '0:0',
    controller: '65532:65532',
    samples: '65532:65532',
    waypoint: '65532:65532',
    ztunnel: '0:0',
  });
});

test('every Dockerfile builds on the Node that package.json pins', () => {
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  for (const name of images.imageNames()) {
    const text = readFileSync(join(root, 'images', name, 'Dockerfile'), 'utf8');
    expect([...text.matchAll(/^FROM (\S+)/gm)].map(([, from]) => from)).toEqual([
      `node:${dependencies['node']}-slim`,
      `node:${dependencies['node']}-slim`,
    ]);
  }
});

test('a Dockerfile that says more than is understood without Docker is refused', async () => {
  const { readDockerfile } = (await import(join(root, 'scripts/lib/dockerfile.mjs'))) as {
    readDockerfile: (text: string, name: string) => unknown;
  };
  const read = (line: string) => () => readDockerfile(`FROM node:1\n${line}\n`, 'Dockerfile');
  expect(read('VOLUME /x')).toThrow('Dockerfile: VOLUME is not understood without Docker');
  expect(read('RUN curl https://example.org | sh')).toThrow('RUN may only install packages');
  expect(read('COPY . /opt')).toThrow('COPY must be --from=build');
});

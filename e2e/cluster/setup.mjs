// Once for a machine: Debian's containerd, runc and CNI plugins, Kubernetes and CoreDNS from their Go modules, and two
// images. Whatever is there already is kept, so that a second time takes no time.
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Unmet } from '../../scripts/lib/ensure.mjs';
import { archiveOf, fileEntry, layerOf } from '../../scripts/lib/image.mjs';
import { components, kubernetesVersion, ownImages, paths } from './layout.mjs';
import { attempt, run } from './process.mjs';

const packages = ['containerd', 'runc', 'containernetworking-plugins', 'conntrack'];
const tools = { iptables: 'iptables', nft: 'nftables', ip: 'iproute2', nsenter: 'util-linux' };
const oldestGo = [1, 24];
const source = (name) => fileURLToPath(new URL(`src/${name}`, import.meta.url));

/** @param phase `(text, work) => …` tells of a step and how long it took */
export async function setup(phase) {
  ensureMachineCanHoldNodes();
  for (const folder of [paths.bin, paths.debs, paths.system, paths.images])
    mkdirSync(folder, { recursive: true });
  await phase('system packages', () => installTools(Object.entries(tools)));
  await phase('containerd, runc and CNI plugins', fetchRuntime);
  await phase('a Go compiler', ensureGo);
  await phase(`Kubernetes ${kubernetesVersion} (10 to 15 minutes the first time)`, () =>
    build('kubernetes', 'kube', versionFlags()),
  );
  for (const name of components) link(name);
  await phase('CoreDNS', () => build('coredns', 'coredns', []));
  await phase('pause and the forwarder', () => {
    build('pause', 'pause', []);
    build('nsfwd', 'nsfwd', []);
  });
  await phase('images', makeImages);
}

function ensureMachineCanHoldNodes() {
  if (process.getuid() !== 0)
    throw new Unmet(
      'the cluster needs root: containerd and the kubelet mount file systems and make cgroups.',
    );
  if (!['x64', 'arm64'].includes(process.arch))
    throw new Unmet(`the cluster needs amd64 or arm64; this is ${process.arch}.`);
  const groups = readFileSync('/proc/self/cgroup', 'utf8');
  if (!/^\d+:memory:/m.test(groups))
    throw new Unmet(
      'the cluster is made for cgroup version 1 and this machine has version 2 only.\n' +
        'Make a cluster with kind instead and run:  KUBECONFIG=… npm run e2e  (.github/workflows/ci.yaml shows how).',
    );
}

function installTools(wanted) {
  const missing = wanted.filter(([tool]) => attempt(tool, ['--version']).error !== undefined);
  if (missing.length > 0)
    apt('install', '-y', '--no-install-recommends', ...missing.map(([, name]) => name));
}

function apt(...args) {
  if (attempt('apt-get', ['--version']).status !== 0)
    throw new Unmet(
      `needed here: apt-get ${args.join(' ')}. Install the same by your system's package manager.`,
    );
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  if (attempt('apt-get', ['-q', ...args], { env, cwd: paths.debs }).status === 0) return;
  run('apt-get', ['update', '-q'], { env });
  run('apt-get', ['-q', ...args], { env, cwd: paths.debs });
}

/** Unpacked beside the system, not installed: nothing of it starts by itself. */
function fetchRuntime() {
  if (existsSync(paths.containerd) && existsSync(paths.runc) && existsSync(paths.plugins)) return;
  apt('download', ...packages);
  for (const file of readdirSync(paths.debs))
    run('dpkg', ['-x', join(paths.debs, file), paths.system]);
  rmSync(paths.debs, { recursive: true });
}

function ensureGo() {
  const version = () =>
    /go(\d+)\.(\d+)/
      .exec(attempt('go', ['version']).stdout ?? '')
      ?.slice(1)
      .map(Number);
  if (existsSync(join(paths.bin, 'kubernetes')) && existsSync(join(paths.bin, 'coredns'))) return;
  if (version() === undefined) apt('install', '-y', '--no-install-recommends', 'golang-go');
  const [major = 0, minor = 0] = version() ?? [];
  // From 1.21 on Go fetches the newer one that go.mod asks for.
  if (major > 1 || minor >= 21) return;
  throw new Unmet(
    `Go ${oldestGo.join('.')} or later is needed to build Kubernetes, and this system's packages have ${major}.${minor}.\n` +
      'Install it from https://go.dev/dl/ to /usr/local/go and run this again.',
  );
}

function versionFlags() {
  const [, major, minor] = /^v(\d+)\.(\d+)/.exec(kubernetesVersion);
  const base = 'k8s.io/component-base/version';
  return [
    `-X ${base}.gitVersion=${kubernetesVersion}`,
    `-X ${base}.gitMajor=${major}`,
    `-X ${base}.gitMinor=${minor}`,
    `-X ${base}.gitTreeState=clean`,
    `-X k8s.io/client-go/pkg/version.gitVersion=${kubernetesVersion}`,
  ];
}

function build(name, folder, flags) {
  const file = join(paths.bin, name);
  if (existsSync(file)) return;
  // Into another file first: what is there is whole.
  run(
    'go',
    ['build', '-trimpath', '-ldflags', ['-s -w', ...flags].join(' '), '-o', `${file}.new`, '.'],
    {
      cwd: source(folder),
      env: { CGO_ENABLED: '0', GOFLAGS: '-mod=readonly' },
    },
  );
  run('mv', [`${file}.new`, file]);
}

function link(name) {
  if (!existsSync(join(paths.bin, name))) symlinkSync('kubernetes', join(paths.bin, name));
}

function makeImages() {
  for (const name of ownImages) {
    const file = join(paths.images, `${name}.tar`);
    if (existsSync(file)) continue;
    const program = new Map([[name, fileEntry(join(paths.bin, name))]]);
    const { archive } = archiveOf({
      repository: `ambit/cluster-${name}`,
      tag: '1',
      config: { Entrypoint: [`/${name}`], WorkingDir: '/' },
      layers: [{ ...layerOf(program), comment: name }],
    });
    writeFileSync(file, archive);
  }
}

// A node: namespaces of its own in which containerd, the kubelet and kube-proxy run as on a host.
import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  readdirSync,
} from 'node:fs';
import { rmSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Unmet } from '../../scripts/lib/ensure.mjs';
import { connectNode } from './control-plane.mjs';
import { controlPlane, networks, path, paths } from './layout.mjs';
import { containerdConfig, kubeletConfig, proxyConfig } from './node-config.mjs';
import {
  alive,
  attempt,
  logFile,
  pidFile,
  remember,
  run,
  start,
  stop,
  waitFor,
} from './process.mjs';

const script = (name) => fileURLToPath(new URL(name, import.meta.url));
const initOf = ({ name }) => pidFile(`${name}-init`);

export const isUp = (node) => alive(initOf(node)) !== undefined;

/** The first process of a node and all that belongs to a machine: network, cgroups, folders. */
export async function startMachine(node) {
  if (isUp(node)) return;
  await stopNode(node);
  run('ip', ['netns', 'add', node.netns]);
  connectNode(node);
  writeFiles(node);
  const groups = makeCgroups(node.cgroup);
  writeFileSync(join(node.dir, 'cgroups'), groups.map(({ path: at }) => `${at}\n`).join(''));
  const mounts = groups.map(({ folder, options }) => `${folder} ${options}`).join('\n');
  writeFileSync(join(node.dir, 'cgroup-mounts'), `${mounts}\n`);
  mkdirSync(paths.logs, { recursive: true });
  const log = openSync(logFile(`${node.name}-init`), 'a');
  const child = spawn(
    'sh',
    [script('enter-cgroups.sh'), node.dir, 'nsenter', `--net=/run/netns/${node.netns}`]
      .concat(['unshare', '-m', '-u', '-i', '-p', '-C', '-f', '--propagation', 'private'])
      .concat(['sh', script('node-init.sh'), node.name, node.dir, join(paths.bin, 'pause')]),
    { detached: true, stdio: ['ignore', log, log], cwd: '/', env: { ...process.env, PATH: path } },
  );
  closeSync(log);
  child.unref();
  await waitFor(
    `${node.name} starts`,
    () => {
      if (child.exitCode !== null)
        throw new Unmet(`${node.name} ended; see ${logFile(`${node.name}-init`)}`);
      return existsSync(join(node.dir, 'ready'));
    },
    { timeoutMs: 10_000, log: `${node.name}-init`, everyMs: 20 },
  );
  const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8');
  remember(initOf(node), Number(children.trim().split(' ')[0]));
}

/** What a host has of its own below /etc, /opt, /var/lib and /var/log. */
function writeFiles(node) {
  const { dir, name, ip } = node;
  for (const folder of ['etc/upper/cni/net.d', 'etc/work', 'opt/upper/cni/bin', 'opt/work'])
    mkdirSync(join(dir, folder), { recursive: true });
  for (const folder of ['lib/kubelet', 'lib/containerd', 'lib/cni', 'log/pods', 'log/containers'])
    mkdirSync(join(dir, folder), { recursive: true });
  rmSync(join(dir, 'ready'), { force: true });
  cpSync(paths.plugins, join(dir, 'opt/upper/cni/bin'), { recursive: true });
  const etc = (file, text) => writeFileSync(join(dir, 'etc/upper', file), text);
  etc('hosts', `127.0.0.1 localhost\n${ip} ${name}\n`);
  etc('hostname', `${name}\n`);
  etc('resolv.conf', `nameserver ${controlPlane.ip}\n`);
  const conflist = 'cni/net.d/10-bridge.conflist';
  if (!existsSync(join(dir, 'etc/upper', conflist))) etc(conflist, bridge(node));
  writeFileSync(join(dir, 'containerd.toml'), containerdConfig());
  writeFileSync(join(dir, 'kubelet.yaml'), kubeletConfig(node));
  writeFileSync(join(dir, 'proxy.yaml'), proxyConfig(node));
}

function bridge({ podCidr }) {
  const ipam = {
    type: 'host-local',
    ranges: [[{ subnet: podCidr }]],
    routes: [{ dst: '0.0.0.0/0' }],
  };
  const plugins = [
    { type: 'bridge', bridge: 'cni0', isGateway: true, ipMasq: false, hairpinMode: true, ipam },
    { type: 'portmap', capabilities: { portMappings: true } },
  ];
  return `${JSON.stringify({ cniVersion: '1.0.0', name: 'pods', plugins }, undefined, 2)}\n`;
}

/** A group of the node's own in each hierarchy (version 1), below those of this process. */
function makeCgroups(name) {
  const groups = [];
  for (const line of readFileSync('/proc/self/cgroup', 'latin1').trim().split('\n')) {
    const [, controllers, at] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (!controllers) continue;
    const folder = controllers.replace('name=', '');
    const parent = join('/sys/fs/cgroup', folder, at);
    const group = join(parent, name);
    mkdirSync(group, { recursive: true });
    if (controllers.split(',').includes('cpuset'))
      for (const file of ['cpuset.cpus', 'cpuset.mems'])
        writeFileSync(join(group, file), readFileSync(join(parent, file)));
    const options = controllers.startsWith('name=') ? `none,${controllers}` : controllers;
    groups.push({ path: group, folder, options });
  }
  return groups;
}

/** The command line that runs something on a node, in all its namespaces and cgroups. */
export function onNode(node, command, args) {
  const pid = alive(initOf(node));
  if (pid === undefined) throw new Unmet(`${node.name} does not run`);
  const enter = ['nsenter', '-t', String(pid), '-m', '-u', '-i', '-n', '-p', '-C', '--'];
  return ['sh', [script('enter-cgroups.sh'), node.dir, ...enter, command, ...args]];
}

export function startContainerd(node) {
  const config = ['-c', join(node.dir, 'containerd.toml')];
  start(`${node.name}-containerd`, ...onNode(node, paths.containerd, config));
}

export async function containerdReady(node) {
  await waitFor(
    `containerd of ${node.name} answers`,
    () => attempt(...onNode(node, 'ctr', ['version'])).status === 0,
    { log: `${node.name}-containerd` },
  );
}

export function startKubelet(node) {
  const { name, ip, dir } = node;
  start(
    `${name}-kubelet`,
    ...onNode(node, join(paths.bin, 'kubelet'), [
      `--config=${join(dir, 'kubelet.yaml')}`,
      `--kubeconfig=${join(paths.pki, `kubelet-${name}.kubeconfig`)}`,
      `--hostname-override=${name}`,
      `--node-ip=${ip}`,
      `--node-labels=topology.kubernetes.io/region=local,topology.kubernetes.io/zone=${node.zone}`,
      '--root-dir=/var/lib/kubelet',
    ]),
  );
  const proxy = [`--config=${join(dir, 'proxy.yaml')}`];
  start(`${name}-proxy`, ...onNode(node, join(paths.bin, 'kube-proxy'), proxy));
}

/** The digests of a node's images, by name. */
export function imagesOf(node) {
  const listed = run(...onNode(node, 'ctr', ['-n', 'k8s.io', 'images', 'ls']));
  const rows = listed.trim().split('\n').slice(1);
  return new Map(rows.map((row) => row.split(/\s+/)).map(([ref, , digest]) => [ref, digest]));
}

/** Gives an archive's image to a node that has not the very same. */
export function loadImage(node, file) {
  const index = attempt('tar', ['-xOf', file, 'index.json']);
  const [image] = index.status === 0 ? JSON.parse(index.stdout).manifests : [];
  const ref = image?.annotations?.['io.containerd.image.name'];
  if (ref !== undefined && imagesOf(node).get(ref) === image.digest) return;
  run(...onNode(node, 'ctr', ['-n', 'k8s.io', 'images', 'import', file]));
}

/** Ends the node's first process and with it everything that runs on it, then takes away what it stood on. */
export async function stopNode(node) {
  await stop(initOf(node), 'SIGKILL', 20_000);
  for (const part of ['containerd', 'kubelet', 'proxy'])
    await stop(pidFile(`${node.name}-${part}`), 'SIGKILL');
  const list = join(node.dir, 'cgroups');
  const groups = existsSync(list) ? readFileSync(list, 'utf8').trim().split('\n') : [];
  await waitFor(`the cgroups of ${node.name} are empty`, () => groups.every(removeCgroup), {
    timeoutMs: 10_000,
  });
  attempt('ip', ['netns', 'delete', node.netns]);
}

function removeCgroup(path) {
  if (!existsSync(path)) return true;
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) removeCgroup(join(path, entry.name));
  try {
    rmdirSync(path);
    return true;
  } catch {
    return false;
  }
}

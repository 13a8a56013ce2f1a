// What the machine looks like outside of the cluster, so that a cluster that is taken down can show that it left nothing.
import { existsSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { name, nodes, paths } from './layout.mjs';
import { attempt } from './process.mjs';

const file = join(paths.run, 'machine.json');
/** Settings that count something or change by themselves. */
const restless =
  /^(fs\/(dentry-state|file-nr|inode-)|fs\/(quota|aio-nr)|kernel\/(random|ns_last_pid|pty\/nr|sched_domain|perf_event)|net\/netfilter\/nf_conntrack_count|vm\/stat_refresh)/;

/** Network namespaces of clusters of other names, and the mounts that hold them. */
const others = new RegExp(
  `(^|/run/netns/)(?!${name}-(?:control-plane|node-\\d)( |$))[a-z0-9-]+-(control-plane|node-\\d)( |$)`,
);

/** Of before the first start; kept until the cluster is taken down. */
export function rememberMachine() {
  if (!existsSync(file)) writeFileSync(file, JSON.stringify(look()));
}

/** `ip netns` mounts a folder for its names; it goes too unless it was there or has others' names. */
export function removeNetnsFolder() {
  const before = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).mount : [];
  const mounted = before.some((line) => line.split(' ')[1] === '/run/netns');
  if (mounted || folder('/run/netns').length > 0) return;
  attempt('umount', ['/run/netns']);
  try {
    rmdirSync('/run/netns');
  } catch {
    // There is none.
  }
}

/** What is there that was not, and what changed. */
export function leftBehind() {
  if (!existsSync(file)) return [];
  const before = JSON.parse(readFileSync(file, 'utf8'));
  const now = look();
  return Object.keys(now).flatMap((kind) => {
    const had = new Set(before[kind]);
    const more = now[kind].filter((one) => !had.has(one) && !others.test(one));
    return more.map((one) => `${kind}: ${one}`);
  });
}

function look() {
  const lines = (command, args) => (attempt(command, args).stdout ?? '').trim().split('\n');
  return {
    'network namespace': folder('/run/netns'),
    link: lines('ip', ['-o', 'link']).map((line) => line.split(':')[1]?.trim() ?? ''),
    route: [...lines('ip', ['route', 'show', 'table', 'all']), ...lines('ip', ['rule'])],
    'nftables table': lines('nft', ['list', 'tables']),
    mount: readFileSync('/proc/self/mounts', 'utf8').trim().split('\n'),
    cgroup: cgroups(),
    setting: settings('/proc/sys', ''),
    process: processes(),
  };
}

function folder(path) {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function cgroups() {
  return folder('/sys/fs/cgroup').flatMap((controller) =>
    ['', '/process_api']
      .flatMap((at) => folder(`/sys/fs/cgroup/${controller}${at}`))
      .filter((name) => nodes.some(({ cgroup }) => cgroup === name) || name === 'kubepods')
      .map((name) => `${controller}/${name}`),
  );
}

function settings(root, below) {
  return readdirSync(join(root, below), { withFileTypes: true }).flatMap((entry) => {
    const name = below === '' ? entry.name : `${below}/${entry.name}`;
    if (restless.test(name)) return [];
    if (entry.isDirectory()) return settings(root, name);
    try {
      return [`${name}=${readFileSync(join(root, name), 'latin1').trim()}`];
    } catch {
      return [];
    }
  });
}

/** Those that run something of the cluster's folder. */
function processes() {
  return folder('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim();
      } catch {
        return '';
      }
    })
    .filter((line) => line.includes(`${paths.run}/`) && !line.includes('cluster.mjs'));
}

// Makes sure that what a script needs is on the machine: packages of the lock file, system tools,
// kernel features. Uses nothing but Node's own modules, since it runs before the first install.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));
process.env.PATH = [process.env.PATH, '/usr/local/sbin', '/usr/sbin', '/sbin'].join(delimiter);

const tools = [
  { tool: 'ip', debian: 'iproute2', fedora: 'iproute', what: 'links, addresses and routes' },
  { tool: 'nft', debian: 'nftables', fedora: 'nftables', what: 'the rules that redirect traffic' },
  { tool: 'unshare', debian: 'util-linux', fedora: 'util-linux', what: 'namespaces of its own' },
  { tool: 'nsenter', debian: 'util-linux', fedora: 'util-linux', what: 'commands in a pod' },
  { tool: 'mount', debian: 'mount', fedora: 'util-linux', what: "the pods' files" },
];

/** A problem that the user can mend; its text says how. */
export class Unmet extends Error {}

export function ensureLinux() {
  if (process.platform !== 'linux') {
    throw new Unmet(
      `the sandbox needs Linux (network namespaces, nftables); this is ${process.platform}.\n` +
        'Run it in a Linux virtual machine or container with --privileged.',
    );
  }
  if (Number(process.versions.node.split('.')[0]) < 20) {
    throw new Unmet(`Node 20 or later is needed to start; this is ${process.version}.`);
  }
}

/** Installs the packages of package-lock.json unless they are there. */
export function ensurePackages(say) {
  const lock = join(root, 'package-lock.json');
  const stamp = join(root, 'node_modules/.package-lock.json');
  const pinned = join(root, 'node_modules/node/bin/node');
  const fresh = existsSync(stamp) && statSync(stamp).mtimeMs >= statSync(lock).mtimeMs;
  if (existsSync(pinned) && (fresh || sameVersions(lock, stamp))) return;
  say('installing packages (npm ci)');
  const run = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (run.status !== 0) throw new Unmet('npm ci failed; its messages are above.');
}

function sameVersions(lock, stamp) {
  if (!existsSync(stamp)) return false;
  const wanted = JSON.parse(readFileSync(lock, 'utf8')).packages;
  const have = JSON.parse(readFileSync(stamp, 'utf8')).packages;
  return Object.entries(wanted).every(
    ([path, entry]) =>
      path === '' ||
      entry.optional ||
      entry.link ||
      have[path]?.version === entry.version ||
      !path.startsWith('node_modules/'),
  );
}

/** Installs missing system tools when that is possible (root on Debian or Ubuntu), or names them. */
export function ensureTools(say) {
  const missing = tools.filter(({ tool }) => !onPath(tool));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map(({ debian }) => debian))];
  const names = missing.map(({ tool, what }) => `${tool} (${what})`).join(', ');
  if (process.getuid() === 0 && onPath('apt-get')) {
    say(`installing system packages: ${packages.join(' ')}`);
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    const quiet = { env, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' };
    spawnSync('apt-get', ['update', '-q'], quiet);
    const run = spawnSync(
      'apt-get',
      ['install', '-y', '-q', '--no-install-recommends', ...packages],
      quiet,
    );
    if (run.status === 0 && missing.every(({ tool }) => onPath(tool))) return;
    throw new Unmet(`missing: ${names}. Installing ${packages.join(' ')} failed:\n${run.stderr}`);
  }
  const install = onPath('dnf')
    ? `sudo dnf install ${[...new Set(missing.map(({ fedora }) => fedora))].join(' ')}`
    : `sudo apt-get install ${packages.join(' ')}`;
  throw new Unmet(`missing: ${names}.\nInstall with:  ${install}`);
}

/** Tries a world of namespaces and its one nftables table, and says which part the kernel refuses. */
export function ensureNamespaces() {
  const asUser = process.getuid() === 0 ? [] : ['--user', '--map-root-user'];
  const world = [...asUser, '--net', '--mount', '--pid', '--fork', '--mount-proc'];
  const opened = spawnSync('unshare', [...world, 'true'], { encoding: 'utf8' });
  if (opened.status !== 0) throw new Unmet(namespacesRefused(opened.stderr));
  const rules =
    'add table ip t; add chain ip t c { type nat hook output priority 0; }; add rule ip t c tcp dport 1 redirect to :2';
  const nat = spawnSync('unshare', [...world, 'nft', rules], { encoding: 'utf8' });
  if (nat.status !== 0) {
    throw new Unmet(
      `the kernel refuses an nftables redirect rule: ${nat.stderr.trim()}\n` +
        'Load the modules with:  sudo modprobe nf_tables nft_redir nft_chain_nat nft_ct',
    );
  }
}

function namespacesRefused(stderr) {
  const apparmor = '/proc/sys/kernel/apparmor_restrict_unprivileged_userns';
  const restricted = existsSync(apparmor) && readFileSync(apparmor, 'utf8').trim() === '1';
  const advice =
    process.getuid() === 0
      ? 'This looks like a container without the right to make namespaces: start it with --privileged.'
      : restricted
        ? 'AppArmor restricts user namespaces on this system. Run as root (sudo), or allow them with:\n' +
          '  sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0'
        : 'Run as root (sudo), or allow user namespaces:  sudo sysctl user.max_user_namespaces=15000';
  return `this kernel does not let the sandbox make its namespaces: ${stderr.trim()}\n${advice}`;
}

function onPath(tool) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** All of the above: what every script needs that opens a world of namespaces. */
export function ensureMachine(say) {
  ensureLinux();
  ensurePackages(say);
  ensureTools(say);
  ensureNamespaces();
}

/** Runs `main`, printing an unmet need as a sentence instead of a stack. */
export async function orExplain(main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof Unmet)) throw error;
    console.error(`\nambit: ${error.message}`);
    process.exitCode = 1;
  }
}

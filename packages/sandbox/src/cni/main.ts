/**
 * CNI plugin `sandbox-ptp`: joins a pod's namespace to its node's by a veth pair with host routes,
 * and hands out addresses of the node's pod range. Self-contained, so that it starts fast.
 * Contract: CNI specification 1.1.0 (operations ADD, DEL, CHECK, GC, STATUS, VERSION).
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';

interface PtpConfig {
  cniVersion?: string;
  name?: string;
  /** IPv4 range of the node's pods, a /24. */
  subnet?: string;
  /** IPv6 range of the node's pods, a /64; without it pods have no IPv6. */
  subnet6?: string;
  dataDir?: string;
  mtu?: number;
  'cni.dev/valid-attachments'?: { containerID: string; ifname: string }[];
  prevResult?: { ips?: { address: string }[] };
}

interface Attachment {
  readonly host: number;
  readonly owner: string;
}

const supported = ['0.4.0', '1.0.0', '1.1.0'];
const firstHost = 2;
const lastHost = 254;

/** A failure as CNI reports it; codes below 100 are the specification's. */
class PluginError extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

function required(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === '') throw new PluginError(4, `${name} is not set`);
  return value;
}

function readConfig(): PtpConfig {
  try {
    return JSON.parse(readFileSync(0, 'utf8')) as PtpConfig;
  } catch {
    throw new PluginError(6, 'the network configuration on stdin is not JSON');
  }
}

function prefixOf(config: PtpConfig): string {
  const match = /^(\d+\.\d+\.\d+)\.0\/24$/.exec(config.subnet ?? '');
  if (match?.[1] === undefined) {
    throw new PluginError(
      7,
      `subnet ${config.subnet ?? '(missing)'} is not a /24: use for example 10.244.1.0/24`,
    );
  }
  return match[1];
}

function prefix6Of(config: PtpConfig): string | undefined {
  if (config.subnet6 === undefined) return undefined;
  const match = /^([0-9a-f:]+::)\/64$/.exec(config.subnet6);
  if (match?.[1] === undefined) {
    throw new PluginError(
      7,
      `subnet6 ${config.subnet6} is not a /64: use for example fd00:10:244:1::/64`,
    );
  }
  return match[1];
}

function dataDirOf(config: PtpConfig): string {
  if (config.dataDir === undefined || !config.dataDir.startsWith('/')) {
    throw new PluginError(7, 'dataDir must be an absolute path');
  }
  mkdirSync(config.dataDir, { recursive: true });
  return config.dataDir;
}

function attachments(dataDir: string): Attachment[] {
  return readdirSync(dataDir).flatMap((file) => {
    const host = Number(file);
    if (!Number.isInteger(host)) return [];
    try {
      return [{ host, owner: readFileSync(`${dataDir}/${file}`, 'utf8') }];
    } catch {
      return [];
    }
  });
}

/** Takes the next free address, starting after the last one given, so that an address is not reused at once. */
function allocate(dataDir: string, owner: string): number {
  const taken = new Map(attachments(dataDir).map((a) => [a.host, a.owner]));
  for (const [host, holder] of taken) if (holder === owner) return host;
  let last = firstHost - 1;
  try {
    last = Number(readFileSync(`${dataDir}/last`, 'utf8'));
  } catch {
    // No address was given yet.
  }
  const size = lastHost - firstHost + 1;
  for (let step = 1; step <= size; step += 1) {
    const host = firstHost + ((last - firstHost + step + size) % size);
    if (taken.has(host)) continue;
    try {
      // Creating the file exclusively is the lock: two plugins at once never get one address.
      writeFileSync(`${dataDir}/${host}`, owner, { flag: 'wx' });
    } catch {
      continue;
    }
    writeFileSync(`${dataDir}/last.${process.pid}`, String(host));
    renameSync(`${dataDir}/last.${process.pid}`, `${dataDir}/last`);
    return host;
  }
  throw new PluginError(100, `all ${size} addresses of the node's pod range are in use`);
}

function batch(lines: readonly string[], netns?: string): string | undefined {
  const input = `${lines.join('\n')}\n`;
  const batched = ['-force', '-batch', '-'];
  const done =
    netns === undefined
      ? spawnSync('ip', batched, { input, encoding: 'utf8' })
      : spawnSync('nsenter', [`--net=${netns}`, '--', 'ip', ...batched], {
          input,
          encoding: 'utf8',
        });
  if (done.error !== undefined) return `ip: ${done.error.message}`;
  return done.status === 0 ? undefined : done.stderr.trim();
}

function hostLink(containerId: string, ifname: string): string {
  return `veth${createHash('sha256').update(`${containerId}/${ifname}`).digest('hex').slice(0, 10)}`;
}

function add(config: PtpConfig, containerId: string, ifname: string): object {
  const netns = required('CNI_NETNS');
  const prefix = prefixOf(config);
  const prefix6 = prefix6Of(config);
  const dataDir = dataDirOf(config);
  const host = allocate(dataDir, `${containerId}/${ifname}`);
  const link = hostLink(containerId, ifname);
  const mtu = config.mtu === undefined ? '' : ` mtu ${config.mtu}`;
  const ip = `${prefix}.${host}`;
  const gateway = `${prefix}.1`;
  const ip6 = prefix6 === undefined ? undefined : `${prefix6}${host.toString(16)}`;
  const gateway6 = prefix6 === undefined ? '' : `${prefix6}1`;
  const failed =
    batch([
      `link add ${link}${mtu} type veth peer name ${ifname}${mtu} netns ${netns}`,
      `addr add ${gateway}/32 dev ${link}`,
      ...(ip6 === undefined ? [] : [`addr add ${gateway6}/128 dev ${link} nodad`]),
      `link set ${link} up`,
      `route add ${ip}/32 dev ${link}`,
      ...(ip6 === undefined ? [] : [`route add ${ip6}/128 dev ${link}`]),
    ]) ??
    batch(
      [
        'link set lo up',
        `addr add ${ip}/32 dev ${ifname}`,
        ...(ip6 === undefined ? [] : [`addr add ${ip6}/128 dev ${ifname} nodad`]),
        `link set ${ifname} up`,
        `route add ${gateway}/32 dev ${ifname} scope link`,
        `route add default via ${gateway} dev ${ifname} src ${ip}`,
        ...(ip6 === undefined
          ? []
          : [
              `route add ${gateway6}/128 dev ${ifname}`,
              `route add default via ${gateway6} dev ${ifname} src ${ip6}`,
            ]),
      ],
      netns,
    );
  if (failed !== undefined) {
    remove(config, containerId, ifname);
    throw new PluginError(100, `the pod's link could not be made: ${failed}`);
  }
  return {
    cniVersion: config.cniVersion,
    interfaces: [{ name: link }, { name: ifname, sandbox: netns }],
    ips: [
      { address: `${ip}/32`, gateway, interface: 1 },
      ...(ip6 === undefined ? [] : [{ address: `${ip6}/128`, gateway: gateway6, interface: 1 }]),
    ],
    routes: [
      { dst: '0.0.0.0/0', gw: gateway },
      ...(ip6 === undefined ? [] : [{ dst: '::/0', gw: gateway6 }]),
    ],
    dns: {},
  };
}

/** Removes what ADD made; what is not there is no error, as the specification asks. */
function remove(config: PtpConfig, containerId: string, ifname: string): void {
  const dataDir = dataDirOf(config);
  const owner = `${containerId}/${ifname}`;
  batch([`link del ${hostLink(containerId, ifname)}`]);
  for (const attachment of attachments(dataDir)) {
    if (attachment.owner === owner) rmSync(`${dataDir}/${attachment.host}`, { force: true });
  }
}

function check(config: PtpConfig, containerId: string, ifname: string): void {
  const dataDir = dataDirOf(config);
  const owner = `${containerId}/${ifname}`;
  const held = attachments(dataDir).find((a) => a.owner === owner);
  if (held === undefined) throw new PluginError(100, `no address is held for ${owner}`);
  const link = hostLink(containerId, ifname);
  const failed =
    batch([`link show ${link}`]) ?? batch([`link show ${ifname}`], required('CNI_NETNS'));
  if (failed !== undefined) throw new PluginError(100, `the pod's link is gone: ${failed}`);
}

function collect(config: PtpConfig): void {
  const valid = new Set(
    (config['cni.dev/valid-attachments'] ?? []).map((a) => `${a.containerID}/${a.ifname}`),
  );
  for (const { owner } of attachments(dataDirOf(config))) {
    const slash = owner.lastIndexOf('/');
    if (!valid.has(owner)) remove(config, owner.slice(0, slash), owner.slice(slash + 1));
  }
}

function status(config: PtpConfig): void {
  prefixOf(config);
  prefix6Of(config);
  if (!statSync(dataDirOf(config)).isDirectory())
    throw new PluginError(50, 'dataDir is not a directory');
}

function execute(): object | undefined {
  const command = required('CNI_COMMAND');
  if (command === 'VERSION') return { cniVersion: '1.1.0', supportedVersions: supported };
  const config = readConfig();
  if (!supported.includes(config.cniVersion ?? '')) {
    throw new PluginError(
      1,
      `cniVersion ${config.cniVersion ?? '(missing)'} is none of ${supported.join(', ')}`,
    );
  }
  switch (command) {
    case 'ADD':
      return add(config, required('CNI_CONTAINERID'), required('CNI_IFNAME'));
    case 'DEL':
      remove(config, required('CNI_CONTAINERID'), required('CNI_IFNAME'));
      return undefined;
    case 'CHECK':
      check(config, required('CNI_CONTAINERID'), required('CNI_IFNAME'));
      return undefined;
    case 'GC':
      collect(config);
      return undefined;
    case 'STATUS':
      status(config);
      return undefined;
    default:
      throw new PluginError(
        4,
        `CNI_COMMAND ${command} is none of ADD, DEL, CHECK, GC, STATUS, VERSION`,
      );
  }
}

try {
  const result = execute();
  if (result !== undefined) process.stdout.write(`${JSON.stringify(result)}\n`);
} catch (error) {
  const known = error instanceof PluginError;
  const answer = {
    cniVersion: '1.1.0',
    code: known ? error.code : 999,
    msg: known ? error.message : `sandbox-ptp: ${String(error)}`,
  };
  process.stdout.write(`${JSON.stringify(answer)}\n`);
  process.exitCode = 1;
}

import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { runToEnd } from '../net/command.ts';

export interface CniPaths {
  readonly confDir: string;
  readonly binDir: string;
  /** Where results are kept for CHECK and DEL. */
  readonly cacheDir: string;
  /** The node's network namespace: plugins run in it. */
  readonly netns: string;
  /** The node's own `/var/run`, which plugins see in place of the machine's. */
  readonly runDir: string;
}

export interface Attachment {
  readonly containerId: string;
  readonly netns: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly podUid: string;
}

export interface CniResult {
  cniVersion?: string;
  ips?: { address: string; gateway?: string; interface?: number }[];
  interfaces?: { name: string; sandbox?: string }[];
}

interface PluginConfig {
  type: string;
  [key: string]: unknown;
}

interface NetworkList {
  cniVersion: string;
  name: string;
  disableCheck?: boolean;
  plugins: PluginConfig[];
}

/** A network that is not configured, or a plugin that refused. */
export class CniError extends Error {
  readonly code: 'cni/not-configured' | 'cni/plugin-failed';
  constructor(code: CniError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

const pluginTimeoutMs = 30_000;
const ifname = 'eth0';
/** Shows every directory of the node's `/var/run` at its place, then becomes the plugin. */
const enterNode =
  'for d in "$1"/*/; do n=$(basename "$d"); mkdir -p "/run/$n" && mount --rbind "$d" "/run/$n" || exit 1; done; exec "$2"';

/** The network that a runtime uses: the first valid file by name. */
export async function loadNetwork(confDir: string): Promise<NetworkList> {
  const files = (await readdir(confDir).catch(() => [])).filter((f) =>
    /\.(conflist|conf|json)$/.test(f),
  );
  const problems: string[] = [];
  for (const file of files.toSorted()) {
    try {
      return parseNetwork(await readFile(join(confDir, file), 'utf8'), file);
    } catch (error) {
      problems.push(`${file}: ${String(error)}`);
    }
  }
  const detail = problems.length === 0 ? 'no network configuration there' : problems.join('; ');
  throw new CniError('cni/not-configured', `cni config uninitialized: ${confDir}: ${detail}`);
}

function parseNetwork(text: string, file: string): NetworkList {
  const parsed = JSON.parse(text) as Partial<NetworkList> & Partial<PluginConfig>;
  const cniVersion = parsed.cniVersion ?? '0.4.0';
  const name = parsed.name ?? basename(file);
  if (Array.isArray(parsed.plugins) && parsed.plugins.length > 0) {
    return {
      cniVersion,
      name,
      plugins: parsed.plugins,
      disableCheck: parsed.disableCheck ?? false,
    };
  }
  if (typeof parsed.type !== 'string') throw new TypeError('it names no plugin');
  return { cniVersion, name, plugins: [{ ...parsed, type: parsed.type }] };
}

export async function isNetworkConfigured(confDir: string): Promise<boolean> {
  return loadNetwork(confDir).then(
    () => true,
    () => false,
  );
}

/** Attaches a pod: every plugin in order, each given the result of the one before. */
export async function attach(paths: CniPaths, attachment: Attachment): Promise<CniResult> {
  const list = await loadNetwork(paths.confDir);
  let result: CniResult | undefined;
  for (const plugin of list.plugins) {
    result = await invoke(paths, list, plugin, { command: 'ADD', attachment, prevResult: result });
  }
  const cached = { list, result: result ?? {} };
  await mkdir(paths.cacheDir, { recursive: true });
  await writeFile(join(paths.cacheDir, attachment.containerId), JSON.stringify(cached), {
    mode: 0o600,
  });
  return cached.result;
}

/** Detaches a pod: the plugins it was attached by, in reverse order. Safe to repeat. */
export async function detach(paths: CniPaths, attachment: Attachment): Promise<void> {
  const file = join(paths.cacheDir, attachment.containerId);
  const cached = await readFile(file, 'utf8').then(
    (text) => JSON.parse(text) as { list: NetworkList; result: CniResult },
    () => undefined,
  );
  const list = cached?.list ?? (await loadNetwork(paths.confDir).catch(() => undefined));
  for (const plugin of list?.plugins.toReversed() ?? []) {
    if (list === undefined) break;
    await invoke(paths, list, plugin, { command: 'DEL', attachment, prevResult: cached?.result });
  }
  await rm(file, { force: true });
}

interface Invocation {
  readonly command: 'ADD' | 'DEL' | 'CHECK';
  readonly attachment: Attachment;
  readonly prevResult: CniResult | undefined;
}

async function invoke(
  paths: CniPaths,
  list: NetworkList,
  plugin: PluginConfig,
  { command, attachment, prevResult }: Invocation,
): Promise<CniResult> {
  const config = {
    ...plugin,
    cniVersion: list.cniVersion,
    name: list.name,
    ...(prevResult === undefined ? {} : { prevResult }),
  };
  const env = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    CNI_COMMAND: command,
    CNI_CONTAINERID: attachment.containerId,
    CNI_NETNS: attachment.netns,
    CNI_IFNAME: ifname,
    CNI_ARGS: [
      'IgnoreUnknown=1',
      `K8S_POD_NAMESPACE=${attachment.podNamespace}`,
      `K8S_POD_NAME=${attachment.podName}`,
      `K8S_POD_INFRA_CONTAINER_ID=${attachment.containerId}`,
      `K8S_POD_UID=${attachment.podUid}`,
    ].join(';'),
    CNI_PATH: paths.binDir,
  };
  if (!/^[A-Za-z0-9._-]+$/.test(plugin.type)) {
    throw new CniError(
      'cni/plugin-failed',
      `plugin type ${JSON.stringify(plugin.type)} is not a file name`,
    );
  }
  const program = join(paths.binDir, plugin.type);
  const onNode = [
    '--mount',
    '--propagation',
    'slave',
    '--',
    'sh',
    '-c',
    enterNode,
    'sh',
    paths.runDir,
    program,
  ];
  const { status, stdout, stderr } = await runToEnd('unshare', onNode, {
    netns: paths.netns,
    env,
    input: JSON.stringify(config),
    timeoutMs: pluginTimeoutMs,
  });
  if (status !== 0) {
    throw new CniError(
      'cni/plugin-failed',
      `plugin type="${plugin.type}" failed (${command.toLowerCase()}): ${reasonIn(stdout) ?? (stderr.trim() || `exit status ${status ?? 'none'}`)}`,
    );
  }
  if (command !== 'ADD') return {};
  try {
    return JSON.parse(stdout) as CniResult;
  } catch {
    throw new CniError('cni/plugin-failed', `plugin type="${plugin.type}" answered no JSON`);
  }
}

function reasonIn(stdout: string): string | undefined {
  try {
    const answer = JSON.parse(stdout) as { msg?: string; details?: string };
    return (
      [answer.msg, answer.details].filter((part) => part !== undefined && part !== '').join('; ') ||
      undefined
    );
  } catch {
    return undefined;
  }
}

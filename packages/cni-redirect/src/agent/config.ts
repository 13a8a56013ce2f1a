import { agentSocketName } from '@ambit/api';
import type { EnvSource, LogFormat, LogLevel } from '@ambit/core';
import { EnvReader, logLevels } from '@ambit/core';

export interface AgentConfig {
  readonly node: string;
  readonly kubeconfig: string | undefined;
  readonly pluginSocket: string;
  readonly ztunnelSocket: string;
  readonly stateDir: string;
  readonly netnsDir: string;
  readonly confDir: string;
  readonly binDir: string;
  /** `binDir` as the host names it: the plugin's executable names its loader by that path. */
  readonly binDirOnHost: string;
  /** Where libcni, and so the container runtime, keeps the configurations of pods that run. */
  readonly cacheDir: string;
  /** The plugin's executable, copied into `binDir` with the libraries beside it. */
  readonly pluginSource: string;
  /** Path of the plugin's socket as the container runtime sees it. */
  readonly pluginSocketOnHost: string;
  readonly excludedNamespaces: readonly string[];
  /** Takes the mesh off the node whenever the agent stops, as an uninstall does. */
  readonly removeOnStop: boolean;
  /** The agent's own pod. */
  readonly self: { readonly namespace: string; readonly name: string | undefined };
  /** The agent's own DaemonSet: its annotation `ambit.dev/leaving` makes the mesh leave the node. */
  readonly daemonSet: { readonly namespace: string; readonly name: string } | undefined;
  /** Whether the node has the taint `cni.istio.io/not-ready` from its boot until it is ready for pods. */
  readonly taintNode: boolean;
  /** How long a pod that leaves still takes HBONE, for clients that have not heard of it. */
  readonly releaseGraceMs: number;
  readonly healthPort: number;
  readonly metricsPort: number;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

/** The proxy of the node ends at the same time, and cuts what is open at the end of its drain. */
export const stopDrainMs = 22_000;

/** Within this it ends by itself, also where it lets go of every pod of its node. */
export function stopDeadlineMs({ releaseGraceMs }: Pick<AgentConfig, 'releaseGraceMs'>): number {
  return releaseGraceMs + stopDrainMs + 1_000;
}

export const defaultExcludedNamespaces = ['kube-system', 'istio-system'] as const;

export function parseConfig(source: EnvSource): AgentConfig {
  const env = new EnvReader(source);
  const stateDir = env.string('STATE_DIR', '/var/run/istio-cni');
  const pluginSocket = env.string('CNI_AGENT_SOCKET', `${stateDir}/pluginevent.sock`);
  const binDir = env.string('CNI_BIN_DIR', '/host/opt/cni/bin');
  const daemonSet = env.optional('DAEMONSET_NAME');
  const namespace = env.string('POD_NAMESPACE', 'istio-system');
  const config = {
    node: env.string('NODE_NAME'),
    kubeconfig: env.optional('KUBECONFIG'),
    pluginSocket,
    ztunnelSocket: env.string('ZTUNNEL_SOCKET', `/var/run/ztunnel/${agentSocketName}`),
    stateDir,
    netnsDir: env.string('NETNS_DIR', '/var/run/netns'),
    confDir: env.string('CNI_CONF_DIR', '/host/etc/cni/net.d'),
    binDir,
    binDirOnHost: env.string('CNI_BIN_DIR_ON_HOST', binDir.replace(/^\/host(?=\/)/, '')),
    cacheDir: env.string('CNI_CACHE_DIR', '/host/var/lib/cni'),
    pluginSource: env.string('PLUGIN_SOURCE', '/opt/ambit/bin/ambit-cni'),
    pluginSocketOnHost: env.string('CNI_AGENT_SOCKET_ON_HOST', pluginSocket),
    excludedNamespaces: env.list('EXCLUDE_NAMESPACES', defaultExcludedNamespaces),
    removeOnStop: env.boolean('REMOVE_ON_STOP', false),
    self: { namespace, name: env.optional('POD_NAME') },
    daemonSet: daemonSet === undefined ? undefined : { name: daemonSet, namespace },
    taintNode: env.boolean('TAINT_NODE', false),
    releaseGraceMs: env.durationMs('RELEASE_GRACE', 2_000),
    healthPort: env.port('HEALTH_PORT', 8000),
    metricsPort: env.port('METRICS_PORT', 15014),
    logLevel: env.oneOf('LOG_LEVEL', logLevels, 'info'),
    logFormat: env.oneOf<LogFormat>('LOG_FORMAT', ['text', 'json'], 'text'),
  };
  env.finish();
  return config;
}

import type { TrustDomain } from '@ambit/api';
import {
  adminPort,
  agentSocketName,
  metricsPort,
  parseTrustDomain,
  readinessPort,
} from '@ambit/api';
import type { EnvSource, HostPort, LogFormat, LogLevel, StateFileOptions } from '@ambit/core';
import { EnvReader, logLevels } from '@ambit/core';

export interface ZtunnelConfig {
  readonly node: string;
  readonly instance: string;
  readonly clusterId: string;
  readonly trustDomain: TrustDomain;
  readonly controller: HostPort;
  readonly tokenFile: string;
  readonly rootsFile: string;
  readonly agentSocket: string;
  readonly adminPort: number;
  readonly metricsPort: number;
  readonly readinessPort: number;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  /** How long open connections may go on after SIGTERM. */
  readonly drainMs: number;
  readonly connectTimeoutMs: number;
  /** How long a connection waits for state or a certificate that has not arrived. */
  readonly waitMs: number;
  /** Connections that one pod may have open at once. */
  readonly maxConnectionsPerPod: number;
  /**
   * How long a pod that left the mesh is still listened for: for connections that were on their way, and for clients
   * that have not heard of it.
   */
  readonly releaseLingerMs: number;
  /** Where the last good state is kept for a start while the controller is away; undefined: nowhere. */
  readonly stateFile: StateFileOptions | undefined;
}

/** Within this it ends by itself: after the drain there is what closing itself may take, within what its pod gets. */
export function stopDeadlineMs({ drainMs }: Pick<ZtunnelConfig, 'drainMs'>): number {
  return drainMs + 8_000;
}

/** A year: what is kept opens no longer than the node runs. */
const maxStateAgeMs = 8_760 * 3_600_000;

export function parseConfig(source: EnvSource): ZtunnelConfig {
  const env = new EnvReader(source);
  const trustDomain = parseTrustDomain(env.string('TRUST_DOMAIN', 'cluster.local'));
  if (!trustDomain.ok) env.problem('TRUST_DOMAIN', trustDomain.error.message);
  const statePath = env.optional('STATE_FILE');
  const stateKeyPath = env.optional('STATE_KEY_FILE');
  const stateMaxAgeMs = env.durationMs('STATE_MAX_AGE', 24 * 3_600_000, { maxMs: maxStateAgeMs });
  const config = {
    node: env.string('NODE_NAME'),
    instance: env.string('POD_NAME', 'ztunnel'),
    clusterId: env.string('CLUSTER_ID', 'Kubernetes'),
    trustDomain: (trustDomain.ok ? trustDomain.value : '') as TrustDomain,
    controller: env.hostPort('CONTROLLER_ADDRESS', 'ambit-controller.istio-system.svc:15012'),
    tokenFile: env.string('TOKEN_FILE', '/var/run/secrets/tokens/istio-token'),
    rootsFile: env.string('ROOTS_FILE', '/var/run/secrets/istio/root-cert.pem'),
    agentSocket: env.string('ZTUNNEL_AGENT_SOCKET', `/var/run/ztunnel/${agentSocketName}`),
    adminPort: env.port('ADMIN_PORT', adminPort),
    metricsPort: env.port('METRICS_PORT', metricsPort),
    readinessPort: env.port('READINESS_PORT', readinessPort),
    logLevel: env.oneOf('LOG_LEVEL', logLevels, 'info'),
    logFormat: env.oneOf('LOG_FORMAT', ['text', 'json'], 'text'),
    drainMs: env.durationMs('TERMINATION_DRAIN', 20_000),
    connectTimeoutMs: env.durationMs('CONNECT_TIMEOUT', 5_000),
    waitMs: env.durationMs('WAIT_TIMEOUT', 10_000),
    maxConnectionsPerPod: env.integer('MAX_CONNECTIONS_PER_POD', 20_000, {
      min: 1,
      max: 1_000_000,
    }),
    releaseLingerMs: env.durationMs('RELEASE_LINGER', 10_000),
    stateFile:
      statePath === undefined
        ? undefined
        : {
            path: statePath,
            keyPath: stateKeyPath ?? `${statePath}.key`,
            maxAgeMs: stateMaxAgeMs,
          },
  };
  env.finish();
  return config;
}

import type { Cidr, TrustDomain } from '@ambit/api';
import {
  adminPort,
  hbonePort,
  metricsPort,
  parseCidr,
  parseTrustDomain,
  readinessPort,
} from '@ambit/api';
import type { EnvSource, HostPort, LogFormat, LogLevel } from '@ambit/core';
import { EnvReader, logLevels } from '@ambit/core';

export interface WaypointConfig {
  /** The Gateway that this proxy stands for. */
  readonly gatewayName: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly instance: string;
  readonly node: string;
  readonly clusterId: string;
  readonly trustDomain: TrustDomain;
  readonly controller: HostPort;
  readonly tokenFile: string;
  readonly rootsFile: string;
  readonly hbonePort: number;
  readonly adminPort: number;
  readonly metricsPort: number;
  readonly readinessPort: number;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  /** How long after SIGTERM everything is still served as ever, so that all proxies hear of it. */
  readonly preDrainMs: number;
  /** How long requests under way may go on after that. */
  readonly drainMs: number;
  readonly connectTimeoutMs: number;
  /** How long to wait for the first certificate. */
  readonly waitMs: number;
  /** Ranges that are closed to fetches of keys by default, and are open here. */
  readonly jwksAllowed: readonly Cidr[];
  /** Variables that tags of spans may show. */
  readonly environment: (name: string) => string | undefined;
}

export function parseConfig(source: EnvSource): WaypointConfig {
  const env = new EnvReader(source);
  const trustDomain = parseTrustDomain(env.string('TRUST_DOMAIN', 'cluster.local'));
  if (!trustDomain.ok) env.problem('TRUST_DOMAIN', trustDomain.error.message);
  const config: WaypointConfig = {
    gatewayName: env.string('GATEWAY_NAME'),
    namespace: env.string('POD_NAMESPACE'),
    serviceAccount: env.string('SERVICE_ACCOUNT'),
    instance: env.string('POD_NAME'),
    node: env.string('NODE_NAME'),
    clusterId: env.string('CLUSTER_ID', 'Kubernetes'),
    trustDomain: (trustDomain.ok ? trustDomain.value : '') as TrustDomain,
    controller: env.hostPort('CONTROLLER_ADDRESS', 'ambit-controller.istio-system.svc:15012'),
    tokenFile: env.string('TOKEN_FILE', '/var/run/secrets/tokens/istio-token'),
    rootsFile: env.string('ROOTS_FILE', '/var/run/secrets/istio/root-cert.pem'),
    hbonePort: env.port('HBONE_PORT', hbonePort),
    adminPort: env.port('ADMIN_PORT', adminPort),
    metricsPort: env.port('METRICS_PORT', metricsPort),
    readinessPort: env.port('READINESS_PORT', readinessPort),
    logLevel: env.oneOf('LOG_LEVEL', logLevels, 'info'),
    logFormat: env.oneOf('LOG_FORMAT', ['text', 'json'], 'text'),
    preDrainMs: env.durationMs('PRE_DRAIN', 3_000),
    drainMs: env.durationMs('TERMINATION_DRAIN', 20_000),
    connectTimeoutMs: env.durationMs('CONNECT_TIMEOUT', 10_000),
    waitMs: env.durationMs('WAIT_TIMEOUT', 10_000),
    jwksAllowed: env.list('JWKS_ALLOWED_CIDRS', []).flatMap((text) => {
      const range = parseCidr(text);
      if (range.ok) return [range.value];
      env.problem('JWKS_ALLOWED_CIDRS', range.error.message);
      return [];
    }),
    environment: (name) => source.get(name),
  };
  env.finish();
  return config;
}

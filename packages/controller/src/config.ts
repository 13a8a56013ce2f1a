import { hostname } from 'node:os';

import type { TrustDomain } from '@ambit/api';
import {
  controllerMetricsPort,
  controlPort,
  parseCidr,
  parseHostname,
  parseIp,
  parseTrustDomain,
  webhookPort,
} from '@ambit/api';
import type { EnvSource, LogFormat, LogLevel } from '@ambit/core';
import { EnvReader, logLevels } from '@ambit/core';

export interface ControllerConfig {
  /** Path of a kubeconfig; absent in a pod, whose own service account is then used. */
  readonly kubeconfig: string | undefined;
  readonly rootNamespace: string;
  /** Name of the pod, or of the machine outside of one: by it others know who of them writes. */
  readonly podName: string;
  /** What bears it in `istio.io/rev` is this controller's to write. */
  readonly revision: string;
  /** The revision whose controller writes what bears no `istio.io/rev`. */
  readonly defaultRevision: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  readonly trustDomain: TrustDomain;
  readonly trustDomainAliases: readonly TrustDomain[];
  /** Address to listen on; absent for every address of the host. */
  readonly host: string | undefined;
  readonly controlPort: number;
  readonly metricsPort: number;
  readonly webhookPort: number;
  readonly certificateTtlMs: number;
  /** `<namespace>/<service account>` of the node proxies. */
  readonly trustedNodeAccounts: ReadonlySet<string>;
  readonly debounceQuietMs: number;
  readonly debounceMaxMs: number;
  /** More names and addresses for the certificate of the control port. */
  readonly servingNames: readonly string[];
  /** Image of the waypoints that are deployed. */
  readonly waypointImage: string;
  /** Undefined for what Kubernetes takes for the image's tag. */
  readonly waypointImagePullPolicy: ImagePullPolicy | undefined;
  /** Names of Secrets of the waypoint's namespace. */
  readonly waypointImagePullSecrets: readonly string[];
  readonly waypointResources: ContainerResources;
  /** Ranges that waypoints may ask for keys (`jwksUri`) although they are closed by default. */
  readonly jwksAllowedCidrs: readonly string[];
  /** Where waypoints find the controller. */
  readonly advertisedAddress: string;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

/** As in Kubernetes. */
export type ImagePullPolicy = (typeof pullPolicies)[number];
const pullPolicies = ['Always', 'IfNotPresent', 'Never'] as const;

/** `resources` of a container: amounts by name of the resource, as Kubernetes writes them. */
export interface ContainerResources {
  readonly requests?: Readonly<Record<string, string | number>>;
  readonly limits?: Readonly<Record<string, string | number>>;
}
/** What a waypoint takes at rest, and room for a few thousand requests a second. */
const defaultWaypointResources = '{"requests":{"cpu":"100m","memory":"128Mi"}}';

const minuteMs = 60_000;
/** As in Istio: long enough to outlive an outage of the authority, renewed at a third. */
const defaultCertificateTtlMs = 24 * 60 * minuteMs;
/** The authority's own ten years. */
const maxCertificateTtlMs = 87_600 * 60 * minuteMs;
const defaultQuietMs = 10;
const defaultMaxDebounceMs = 1000;

/** Within this it ends by itself: less than a pod gets by default, so that the proxies notice. */
export const stopDeadlineMs = 20_000;

/** Reads every setting, and throws one error that names everything that is wrong. */
export function parseConfig(source: EnvSource): ControllerConfig {
  const env = new EnvReader(source);
  const podNamespace = env.string('POD_NAMESPACE', 'istio-system');
  const rootNamespace = env.string('ROOT_NAMESPACE', podNamespace);
  const trusted = env.list('TRUSTED_NODE_ACCOUNTS', [`${rootNamespace}/ztunnel`]);
  for (const account of trusted) {
    if (!/^[a-z0-9-]+\/[a-z0-9.-]+$/.test(account)) {
      env.problem(
        'TRUSTED_NODE_ACCOUNTS',
        `${JSON.stringify(account)} is not NAMESPACE/SERVICE-ACCOUNT`,
      );
    }
  }
  const clusterDomain = env.string('CLUSTER_DOMAIN', 'cluster.local');
  if (!parseHostname(clusterDomain).ok) env.problem('CLUSTER_DOMAIN', 'is no DNS name');
  const servingNames = env.list('SERVING_NAMES', []);
  for (const name of servingNames) {
    if (!parseIp(name).ok && !parseHostname(name.replace(/^\*\./, '').toLowerCase()).ok)
      env.problem('SERVING_NAMES', `${JSON.stringify(name)} is neither a DNS name nor an address`);
  }
  const advertisedAddress = `ambit-controller.${rootNamespace}.svc:${controlPort}`;
  env.hostPort('ADVERTISED_ADDRESS', advertisedAddress);
  const certificateTtlMs = env.durationMs('CERTIFICATE_TTL', defaultCertificateTtlMs, {
    maxMs: maxCertificateTtlMs,
  });
  if (certificateTtlMs < minuteMs) env.problem('CERTIFICATE_TTL', 'must be at least 1m');
  const debounceQuietMs = env.durationMs('PUSH_DEBOUNCE', defaultQuietMs);
  const debounceMaxMs = env.durationMs('PUSH_DEBOUNCE_MAX', defaultMaxDebounceMs);
  if (debounceMaxMs < debounceQuietMs) {
    env.problem('PUSH_DEBOUNCE_MAX', 'must not be shorter than PUSH_DEBOUNCE');
  }
  const config: ControllerConfig = {
    kubeconfig: env.optional('KUBECONFIG'),
    rootNamespace,
    podName: env.string('POD_NAME', hostname()),
    revision: env.string('REVISION', 'default'),
    defaultRevision: env.string('DEFAULT_REVISION', 'default'),
    clusterId: env.string('CLUSTER_ID', 'Kubernetes'),
    clusterDomain,
    trustDomain: trustDomain(env, 'TRUST_DOMAIN', env.string('TRUST_DOMAIN', 'cluster.local')),
    trustDomainAliases: env
      .list('TRUST_DOMAIN_ALIASES', [])
      .map((text) => trustDomain(env, 'TRUST_DOMAIN_ALIASES', text)),
    host: env.optional('CONTROL_ADDRESS'),
    controlPort: env.port('CONTROL_PORT', controlPort),
    metricsPort: env.port('METRICS_PORT', controllerMetricsPort),
    webhookPort: env.port('WEBHOOK_PORT', webhookPort),
    certificateTtlMs,
    trustedNodeAccounts: new Set(trusted),
    debounceQuietMs,
    debounceMaxMs,
    servingNames,
    waypointImage: env.string('WAYPOINT_IMAGE', 'ambit/waypoint'),
    waypointImagePullPolicy: pullPolicy(env, 'WAYPOINT_IMAGE_PULL_POLICY'),
    waypointImagePullSecrets: env.list('WAYPOINT_IMAGE_PULL_SECRETS', []),
    waypointResources: containerResources(env, 'WAYPOINT_RESOURCES'),
    jwksAllowedCidrs: env.list('JWKS_ALLOWED_CIDRS', []).filter((text) => {
      const range = parseCidr(text);
      if (!range.ok) env.problem('JWKS_ALLOWED_CIDRS', range.error.message);
      return range.ok;
    }),
    advertisedAddress: env.string('ADVERTISED_ADDRESS', advertisedAddress),
    logLevel: env.oneOf('LOG_LEVEL', logLevels, 'info'),
    logFormat: env.oneOf('LOG_FORMAT', ['text', 'json'], 'text'),
  };
  env.finish();
  return config;
}

function trustDomain(env: EnvReader, name: string, text: string): TrustDomain {
  const parsed = parseTrustDomain(text);
  if (parsed.ok) return parsed.value;
  env.problem(name, parsed.error.message);
  return 'cluster.local' as TrustDomain;
}

function pullPolicy(env: EnvReader, name: string): ImagePullPolicy | undefined {
  return env.optional(name) === undefined ? undefined : env.oneOf(name, pullPolicies, 'Always');
}

function containerResources(env: EnvReader, name: string): ContainerResources {
  const parsed = parseResources(env.string(name, defaultWaypointResources));
  if (parsed === undefined)
    env.problem(
      name,
      `must be JSON of requests and limits, none of the first above the second, such as ${defaultWaypointResources}`,
    );
  return parsed ?? {};
}

function parseResources(json: string): ContainerResources | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    return undefined;
  }
  if (!isRecord(parsed)) return undefined;
  for (const [key, amounts] of Object.entries(parsed)) {
    if (!['requests', 'limits'].includes(key) || !isRecord(amounts)) return undefined;
    if (!Object.values(amounts).every(isQuantity)) return undefined;
  }
  return tooMuch(parsed) ? undefined : parsed;
}

/** Whether more is asked for than may be taken: no API server takes such a pod. */
function tooMuch({ requests = {}, limits = {} }: ContainerResources): boolean {
  const most = new Map(Object.entries(limits));
  return Object.entries(requests).some(([name, amount]) => {
    const limit = most.get(name);
    return limit !== undefined && quantityOf(amount) > quantityOf(limit);
  });
}

const unitFactors: ReadonlyMap<string, number> = new Map([
  ...['n', 'u', 'm', '', 'k', 'M', 'G', 'T', 'P', 'E'].map(
    (unit, index) => [unit, 1000 ** (index - 3)] as const,
  ),
  ...['Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'].map(
    (unit, index) => [unit, 1024 ** (index + 1)] as const,
  ),
]);

function quantityOf(amount: string | number): number {
  const [, number = '', unit = ''] = /^(.*?)([KMGTPE]i|[numkMGTPE])?$/.exec(String(amount)) ?? [];
  return Number(number) * (unitFactors.get(unit) ?? 1);
}

/** As Kubernetes writes amounts: `100m`, `128Mi`, `2`. */
function isQuantity(value: unknown): boolean {
  if (typeof value === 'number') return value >= 0;
  const form = /^\+?(?:\d+(?:\.\d*)?|\.\d+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?$/;
  return typeof value === 'string' && form.test(value);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

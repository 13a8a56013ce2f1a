import type { EnvSource, LogFormat, LogLevel } from '@ambit/core';
import { EnvReader, logLevels } from '@ambit/core';

export const phases = ['release', 'remove'] as const;
export type Phase = (typeof phases)[number];

export interface UninstallConfig {
  /** Before the programs go, or after. */
  readonly phase: Phase;
  readonly rootNamespace: string;
  readonly kubeconfig: string | undefined;
  /** How long is waited for the node agents, and for the controllers to end. */
  readonly timeoutMs: number;
  /** Leaves the self-made root where it is, so that a mesh that is installed again has the same. */
  readonly keepAuthority: boolean;
  readonly revision: string;
  readonly defaultRevision: string;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

export function parseConfig(source: EnvSource): UninstallConfig {
  const env = new EnvReader(source);
  const config: UninstallConfig = {
    phase: env.oneOf('PHASE', phases, 'release'),
    rootNamespace: env.string('POD_NAMESPACE', 'istio-system'),
    kubeconfig: env.optional('KUBECONFIG'),
    timeoutMs: env.durationMs('TIMEOUT', 120_000),
    revision: env.string('REVISION', 'default'),
    defaultRevision: env.string('DEFAULT_REVISION', 'default'),
    keepAuthority: env.boolean('KEEP_AUTHORITY', false),
    logLevel: env.oneOf('LOG_LEVEL', logLevels, 'info'),
    logFormat: env.oneOf('LOG_FORMAT', ['text', 'json'], 'text'),
  };
  env.finish();
  return config;
}

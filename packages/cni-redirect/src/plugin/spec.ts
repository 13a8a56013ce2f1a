/** Versions of the CNI specification that the plugin speaks; many network plugins still write 0.3.1. */
export const supportedVersions = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;

export interface PluginConfig {
  readonly cniVersion: string;
  readonly agentSocket: string;
  readonly excludeNamespaces: readonly string[];
  readonly prevResult: unknown;
}

/** An error in the form that the specification gives to standard output. */
export interface CniError {
  readonly code: number;
  readonly msg: string;
  readonly details: string;
}

/** Codes of the specification, and one of ours (100 and above) for a pod that cannot join. */
export const cniErrorCode = {
  incompatibleVersion: 1,
  environment: 4,
  decoding: 6,
  invalidConfig: 7,
  tryAgain: 11,
  refused: 100,
} as const;

export class CniFailure extends Error {
  readonly error: CniError;

  constructor(code: number, msg: string, details = '') {
    super(msg);
    this.error = { code, msg, details };
  }
}

export function parsePluginConfig(text: string): PluginConfig {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new CniFailure(
      cniErrorCode.decoding,
      'the network configuration on standard input is no JSON',
    );
  }
  const fields = new Map<string, unknown>(
    Object.entries(typeof value === 'object' && value !== null ? value : {}),
  );
  const cniVersion = fields.get('cniVersion');
  if (
    typeof cniVersion !== 'string' ||
    !supportedVersions.some((version) => version === cniVersion)
  ) {
    throw new CniFailure(
      cniErrorCode.incompatibleVersion,
      `cniVersion ${JSON.stringify(cniVersion)} is not supported`,
      `use one of ${supportedVersions.join(', ')}`,
    );
  }
  const agentSocket = fields.get('agentSocket');
  if (typeof agentSocket !== 'string' || agentSocket === '') {
    throw new CniFailure(
      cniErrorCode.invalidConfig,
      'agentSocket is missing',
      'name the unix socket of the node agent',
    );
  }
  const excluded = fields.get('excludeNamespaces');
  return {
    cniVersion,
    agentSocket,
    excludeNamespaces: Array.isArray(excluded)
      ? excluded.filter((name) => typeof name === 'string')
      : [],
    prevResult: fields.get('prevResult'),
  };
}

/** `A=b;C=d`, as the runtime passes what it knows of the pod. */
export function parseCniArgs(text: string): ReadonlyMap<string, string> {
  return new Map(
    text.split(';').flatMap((part) => {
      const at = part.indexOf('=');
      return at > 0 ? [[part.slice(0, at), part.slice(at + 1)] as const] : [];
    }),
  );
}

export interface ResultAddress {
  readonly Interface: string;
  readonly Address: string;
  readonly Gateway: string;
}

/** The pod's addresses from the result of the plugins before us. */
export function addressesOf(prevResult: unknown): ResultAddress[] {
  const ips =
    typeof prevResult === 'object' && prevResult !== null && 'ips' in prevResult
      ? prevResult.ips
      : undefined;
  if (!Array.isArray(ips)) return [];
  return (ips as unknown[]).map((entry) => {
    const fields = new Map<string, unknown>(
      Object.entries(typeof entry === 'object' && entry !== null ? entry : {}),
    );
    const text = (name: string): string => {
      const found = fields.get(name);
      return typeof found === 'string' || typeof found === 'number' ? String(found) : '';
    };
    return { Interface: text('interface'), Address: text('address'), Gateway: text('gateway') };
  });
}

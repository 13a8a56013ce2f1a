/** What `npm run up` asks of the sandbox; passed as JSON in AMBIT_SANDBOX. */
export interface SandboxConfig {
  /** The clone: where the programs' bundles and the samples lie. */
  readonly root: string;
  readonly tour: boolean;
  readonly samples: boolean;
  readonly verbose: boolean;
  /** Where the cluster's objects are kept between starts; undefined keeps them in memory. */
  readonly stateFile?: string;
}

/** From the process that holds the ports on the machine's loopback. */
export type ParentMessage =
  | {
      readonly kind: 'start';
      readonly apiPort: number;
      readonly exposed: readonly { readonly service: string; readonly port: number }[];
      readonly kubeconfig: string;
      readonly startedAtMs: number;
    }
  /** Comes with an accepted socket; `target` is `api` or `namespace/name:port`. */
  | { readonly kind: 'connection'; readonly target: string }
  | { readonly kind: 'stop' };

export interface KubeconfigMessage {
  readonly kind: 'kubeconfig';
  readonly text: string;
}

export function readSandboxConfig(text = process.env['AMBIT_SANDBOX']): SandboxConfig {
  if (text === undefined) {
    throw new Error('AMBIT_SANDBOX is not set: start the sandbox with `npm run up`');
  }
  const value = JSON.parse(text) as SandboxConfig;
  if (typeof value.root !== 'string') throw new Error('AMBIT_SANDBOX names no root');
  return value;
}

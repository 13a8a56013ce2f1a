import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const charts = ['base', 'controller', 'ztunnel', 'cni-redirect', 'gateway', 'ambit'] as const;
export type Chart = (typeof charts)[number];
export const namespace = 'istio-system';

let binary: string | undefined;
/** A real helm. */
export function helmPath(): string {
  const script = join(root, 'scripts/helm.mjs');
  binary ??= execFileSync(process.execPath, [script], { encoding: 'utf8' }).trim();
  return binary;
}

export function helm(...args: string[]): { readonly ok: boolean; readonly output: string } {
  const run = spawnSync(helmPath(), args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  return { ok: run.status === 0, output: `${run.stdout}${run.stderr}` };
}

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

export interface RenderOptions {
  readonly kubeVersion?: string;
  readonly release?: string;
  /** `--set` or `--set-json` values. */
  readonly values?: Readonly<Record<string, unknown>>;
}

/** The manifests of a chart as text; throws what helm says. */
export function renderText(chart: Chart, { kubeVersion, release, values }: RenderOptions = {}) {
  const sets = Object.entries(values ?? {}).flatMap(([path, value]) => [
    '--set-json',
    `${path}=${JSON.stringify(value)}`,
  ]);
  const args = [
    'template',
    release ?? 'ambit',
    join(root, 'charts', chart),
    '-n',
    namespace,
    '--api-versions',
    'gateway.networking.k8s.io/v1/GatewayClass',
    ...(kubeVersion === undefined ? [] : ['--kube-version', kubeVersion]),
    ...sets,
  ];
  const run = spawnSync(helmPath(), args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  if (run.status !== 0) throw new Error(run.stderr);
  return run.stdout;
}

export function render(chart: Chart, options: RenderOptions = {}): KubeObject[] {
  return parseAllDocuments(renderText(chart, options)).flatMap((document) => {
    if (document.errors.length > 0) throw document.errors[0]!;
    const object = document.toJS() as KubeObject | null;
    return object === null ? [] : [object];
  });
}

export function find(objects: readonly KubeObject[], kind: string, name: string): KubeObject {
  const found = objects.find((one) => one.kind === kind && one.metadata.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
  return found;
}

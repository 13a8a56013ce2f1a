import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);
const name = 'ambit';
export const systemNamespace = 'istio-system';

/** The helm release of the mesh in a cluster; undefined where it was installed otherwise. */
export function findRelease(kubeconfig: string | undefined): Release | undefined {
  if (kubeconfig === undefined) return undefined;
  const script = join(root, 'scripts/helm.mjs');
  const helm = execFileSync(process.execPath, [script], { encoding: 'utf8' }).trim();
  const where = ['--kubeconfig', kubeconfig, '-n', systemNamespace];
  const got = spawnSync(helm, ['get', 'values', name, '-o', 'json', ...where], {
    encoding: 'utf8',
  });
  if (got.status !== 0) return undefined;
  return createRelease({ helm, where, values: got.stdout });
}

export interface Release {
  /** `helm upgrade`, or install where it is not, with the values that it had when it was found and these. */
  apply(sets?: Readonly<Record<string, string>>): Promise<void>;
  uninstall(): Promise<void>;
}

interface ReleaseOptions {
  readonly helm: string;
  readonly where: readonly string[];
  /** JSON. */
  readonly values: string;
}

function createRelease({ helm, where, values }: ReleaseOptions): Release {
  const waiting = [...where, '--wait', '--timeout', '5m'];
  return {
    async apply(sets = {}) {
      const folder = mkdtempSync(join(tmpdir(), 'release-'));
      const file = join(folder, 'values.json');
      writeFileSync(file, values === 'null\n' ? '{}' : values);
      const set = Object.entries(sets).flatMap(([path, value]) => ['--set', `${path}=${value}`]);
      const chart = join(root, 'charts/ambit');
      const more = ['--create-namespace', '--reset-values', '-f', file, ...set];
      try {
        await run(helm, ['upgrade', '--install', name, chart, ...more, ...waiting]);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
    async uninstall() {
      await run(helm, ['uninstall', name, ...waiting]);
    },
  };
}

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

/** Packages that hold the helm of their time; helm 4 is what the mesh is installed by. */
const packages = { 3: '1.30', 4: '1.34' } as const;

/** The helm release of the mesh in a cluster, for one of the two helms; undefined where it was installed otherwise. */
export function findRelease(
  kubeconfig: string | undefined,
  major: keyof typeof packages = 4,
): Release | undefined {
  if (kubeconfig === undefined) return undefined;
  const script = [join(root, 'scripts/helm.mjs'), packages[major]];
  const helm = execFileSync(process.execPath, script, { encoding: 'utf8' }).trim();
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
  /** helm with words of one's own, in the mesh's namespace unless they name another; what it said. */
  helm(...words: string[]): Promise<Said>;
  /** `helm upgrade --install` of one chart, under its name, with what the mesh was given for it when it was found. */
  applyChart(chart: string, ...words: string[]): Promise<Said>;
}

export interface Said {
  readonly ok: boolean;
  readonly text: string;
}

interface ReleaseOptions {
  readonly helm: string;
  readonly where: readonly string[];
  /** JSON. */
  readonly values: string;
}

function createRelease({ helm, where, values }: ReleaseOptions): Release {
  const waiting = [...where, '--wait', '--timeout', '5m'];
  const given = JSON.parse(values === 'null\n' ? '{}' : values) as Record<string, object>;
  const say = async (words: readonly string[]): Promise<Said> => {
    const done = run(helm, [...words, ...(words.includes('-n') ? where.slice(0, 2) : where)]);
    return done.then(
      ({ stdout, stderr }) => ({ ok: true, text: stdout + stderr }),
      (error: unknown) => {
        const { stdout, stderr } = error as { readonly stdout: string; readonly stderr: string };
        return { ok: false, text: stdout + stderr };
      },
    );
  };
  /** Does something with a file of values. */
  const withValues = async <T>(some: object, use: (file: string) => Promise<T>): Promise<T> => {
    const folder = mkdtempSync(join(tmpdir(), 'release-'));
    const file = join(folder, 'values.json');
    writeFileSync(file, JSON.stringify(some));
    try {
      return await use(file);
    } finally {
      rmSync(folder, { recursive: true });
    }
  };
  return {
    async apply(sets = {}) {
      const set = Object.entries(sets).flatMap(([path, value]) => ['--set', `${path}=${value}`]);
      const chart = join(root, 'charts/ambit');
      const more = ['--create-namespace', '--reset-values', ...set, ...waiting];
      await withValues(given, (file) =>
        run(helm, ['upgrade', '--install', name, chart, '-f', file, ...more]),
      );
    },
    async uninstall() {
      await run(helm, ['uninstall', name, ...waiting]);
    },
    helm: (...words) => say(words),
    applyChart(chart, ...words) {
      const common = ['--create-namespace', '--reset-values', '--timeout', '5m'];
      const path = join(root, 'charts', chart);
      const own = chart === name ? given : { ...given[chart], global: given['global'] ?? {} };
      return withValues(own, (file) =>
        say(['upgrade', '--install', chart, path, ...common, '-f', file, ...words]),
      );
    },
  };
}

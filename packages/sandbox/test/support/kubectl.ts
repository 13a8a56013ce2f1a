import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('../../../../scripts/kubectl.mjs', import.meta.url));

/** Path of a real kubectl of this minor version; fetched once and kept. */
export function kubectlPath(version = '1.34'): string {
  return execFileSync(process.execPath, [script, version], { encoding: 'utf8' }).trim();
}

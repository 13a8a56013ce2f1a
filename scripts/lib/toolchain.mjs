import { spawnSync } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The Node binary that package-lock.json pins, or the running one before it is installed. */
export function pinnedNode() {
  const pinned = fileURLToPath(new URL('../../node_modules/node/bin/node', import.meta.url));
  return existsSync(pinned) ? pinned : process.execPath;
}

/** Goes on in the pinned Node when another one runs this: older ones read no TypeScript and build no executables. */
export function continueInPinnedNode() {
  const pinned = realpathSync(pinnedNode());
  if (pinned === realpathSync(process.execPath)) return;
  const { status } = spawnSync(pinned, process.argv.slice(1), { stdio: 'inherit' });
  process.exit(status ?? 1);
}

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The Node binary that package-lock.json pins, or the running one before it is installed. */
export function pinnedNode() {
  const pinned = fileURLToPath(new URL('../../node_modules/node/bin/node', import.meta.url));
  return existsSync(pinned) ? pinned : process.execPath;
}

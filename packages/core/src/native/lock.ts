import { closeSync, openSync } from 'node:fs';
import { flock, lastError } from './libc.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;

/** A lock that is held. */
export interface FileLock {
  release(): void;
}

/**
 * Locks a file, which is made where it is not there, against every other one who does so; undefined where somebody has it.
 * The kernel frees it when the process ends, however it does (flock(2)).
 */
export function tryLockFile(path: string): FileLock | undefined {
  const fd = openSync(path, 'a', 0o600);
  if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
    const error = lastError('flock');
    closeSync(fd);
    if (error.code === 'EAGAIN' || error.code === 'EWOULDBLOCK') return undefined;
    throw error;
  }
  let held = true;
  return {
    release() {
      if (held) closeSync(fd);
      held = false;
    },
  };
}

import { closeSync, fstatSync, openSync, stat, statSync } from 'node:fs';
import { checked, lastError, setns, unshare } from './libc.ts';

const CLONE_NEWNET = 0x40000000;

/** An open network namespace. It lives for as long as somebody holds a descriptor of it. */
export interface Netns {
  readonly fd: number;
  /** Names the namespace while it lives; a path can come to mean another one. */
  readonly inode: string;
  close(): void;
}

let home: number | undefined;

/** The network namespace that this process belongs to. */
function homeFd(): number {
  home ??= openSync('/proc/self/ns/net', 'r');
  return home;
}

export function openNetns(path: string): Netns {
  const fd = openSync(path, 'r');
  let open = true;
  return {
    fd,
    inode: String(fstatSync(fd, { bigint: true }).ino),
    close() {
      if (open) closeSync(fd);
      open = false;
    },
  };
}

export function netnsInode(path: string): string {
  return String(statSync(path, { bigint: true }).ino);
}

/**
 * Runs `work` with this thread inside a namespace and comes back. `work` must be synchronous: whatever libuv starts
 * later would otherwise be made in one namespace or the other by chance. A thread that cannot come back would open
 * every later socket in a stranger's namespace, so the process ends instead.
 */
export function inNetns<T>(fd: number, work: () => T): T {
  const back = homeFd();
  checked('setns', setns(fd, CLONE_NEWNET));
  try {
    return work();
  } finally {
    comeBack(back);
  }
}

/** A network namespace in which nothing is and to which nobody else comes. It ends with its descriptor. */
export function makeNetns(): Netns {
  const back = homeFd();
  checked('unshare', unshare(CLONE_NEWNET));
  try {
    return openNetns('/proc/thread-self/ns/net');
  } finally {
    comeBack(back);
  }
}

function comeBack(back: number): void {
  if (setns(back, CLONE_NEWNET) >= 0) return;
  process.stderr.write(
    `fatal: cannot leave a pod's network namespace: ${lastError('setns').message}\n`,
  );
  process.abort();
}

/** Starts libuv's worker threads now, so that none is born inside a pod's namespace and stays there. */
export async function warmThreadpool(threads = 8): Promise<void> {
  homeFd();
  await Promise.all(
    Array.from(
      { length: threads * 2 },
      () => new Promise<void>((resolve) => stat('/', () => resolve())),
    ),
  );
}

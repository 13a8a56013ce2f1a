export interface ClusterLogger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface WorkQueue {
  /** Asks for `key` to be looked at; asking again before that happens changes nothing. */
  add(key: string): void;
  addAfter(key: string, delayMs: number): void;
  /** Stops taking work and waits for what runs. */
  close(): Promise<void>;
}

const firstRetryMs = 20;
const lastRetryMs = 5_000;

/** A queue of keys for a level-triggered controller: one run at a time per key, failures again with back-off. */
export function createWorkQueue(
  name: string,
  logger: ClusterLogger,
  reconcile: (key: string) => Promise<void>,
): WorkQueue {
  const dirty = new Set<string>();
  const running = new Map<string, Promise<void>>();
  const failures = new Map<string, number>();
  const timers = new Set<NodeJS.Timeout>();
  let closed = false;

  function add(key: string): void {
    if (closed) return;
    dirty.add(key);
    if (!running.has(key)) start(key);
  }

  function start(key: string): void {
    running.set(
      key,
      run(key).finally(() => {
        running.delete(key);
        if (dirty.has(key) && !closed) start(key);
      }),
    );
  }

  async function run(key: string): Promise<void> {
    // Lets the changes of one turn of the event loop become one run.
    await new Promise<void>((resolve) => setImmediate(resolve));
    dirty.delete(key);
    if (closed) return;
    try {
      await reconcile(key);
      failures.delete(key);
    } catch (error) {
      const count = (failures.get(key) ?? 0) + 1;
      failures.set(key, count);
      const fields = { controller: name, key, failures: count, error: describe(error) };
      if (count < 4) logger.debug(fields, 'reconcile failed; it will be tried again');
      else logger.warn(fields, 'reconcile keeps failing; it will be tried again');
      addAfter(key, Math.min(lastRetryMs, firstRetryMs * 2 ** Math.min(count, 10)));
    }
  }

  function addAfter(key: string, delayMs: number): void {
    if (closed) return;
    const timer = setTimeout(() => {
      timers.delete(timer);
      add(key);
    }, delayMs);
    timers.add(timer);
  }

  return {
    add,
    addAfter,
    async close() {
      closed = true;
      for (const timer of timers) clearTimeout(timer);
      timers.clear();
      await Promise.allSettled(running.values());
    },
  };
}

/** The message of whatever was thrown. */
export function describe(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'message' in error)
    return String(error.message);
  return String(error);
}

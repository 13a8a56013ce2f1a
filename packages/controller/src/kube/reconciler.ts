import { kubeStatus } from './error.ts';

/** Carries out work for keys, one at a time, each at least once after its last `enqueue`. */
export interface Reconciler {
  enqueue(key: string): void;
  /** Lets the running piece of work end and starts no more. */
  close(): Promise<void>;
}

/** What holds work back: keys wait until it is open. */
export interface Gate {
  isOpen(): boolean;
  onOpen(listener: () => void): void;
}

export interface ReconcilerOptions {
  /** Makes what is there equal to what is wanted; thrown errors are retried. */
  readonly run: (key: string) => Promise<void>;
  /** `failures` in a row, this one among them. */
  readonly onError: (key: string, error: unknown, failures: number) => void;
  /** Always open when absent. */
  readonly gate?: Gate;
  readonly retryMs?: number;
  readonly maxRetryMs?: number;
}

const defaultRetryMs = 500;
const defaultMaxRetryMs = 60_000;

export function createReconciler(options: ReconcilerOptions): Reconciler {
  const queue = new Set<string>();
  const failures = new Map<string, number>();
  const timers = new Map<string, NodeJS.Timeout>();
  let running: Promise<void> | undefined;
  let closed = false;
  const isClosed = (): boolean => closed;
  /** The API server has told not to be asked before this; of all work, not of the key's alone. */
  let pausedUntilMs = 0;
  let pause: NodeJS.Timeout | undefined;
  const isPaused = (): boolean => performance.now() < pausedUntilMs;
  const mayRun = (): boolean => !closed && !isPaused() && options.gate?.isOpen() !== false;

  const retryLater = (key: string, error: unknown, count: number): void => {
    const first = options.retryMs ?? defaultRetryMs;
    const most = options.maxRetryMs ?? defaultMaxRetryMs;
    // An API server that is asked too much says when it may be asked again.
    const asked = (error as { retryAfterMs?: number } | undefined)?.retryAfterMs ?? 0;
    const delayMs = Math.min(Math.max(asked, first * 2 ** Math.min(count - 1, 16)), most);
    if (kubeStatus(error) === 429) pauseFor(Math.min(Math.max(asked, first), most));
    clearTimeout(timers.get(key));
    timers.set(
      key,
      setTimeout(() => {
        timers.delete(key);
        queue.add(key);
        start();
      }, delayMs),
    );
  };
  const pauseFor = (ms: number): void => {
    pausedUntilMs = performance.now() + ms;
    clearTimeout(pause);
    pause = setTimeout(() => {
      pausedUntilMs = 0;
      start();
    }, ms);
  };
  const work = async (): Promise<void> => {
    for (const key of queue) {
      if (!mayRun()) return;
      queue.delete(key);
      try {
        await options.run(key);
        failures.delete(key);
      } catch (error) {
        if (isClosed()) return;
        const count = (failures.get(key) ?? 0) + 1;
        failures.set(key, count);
        options.onError(key, error, count);
        retryLater(key, error, count);
      }
    }
  };
  const start = (): void => {
    if (running !== undefined || !mayRun()) return;
    // Not at once: work that itself enqueues would otherwise start a second worker.
    running = Promise.resolve()
      .then(work)
      .finally(() => {
        running = undefined;
        if (queue.size > 0) start();
      });
  };
  options.gate?.onOpen(() => start());
  return {
    enqueue: (key) => {
      if (closed) return;
      clearTimeout(timers.get(key));
      timers.delete(key);
      queue.add(key);
      start();
    },
    close: async () => {
      closed = true;
      clearTimeout(pause);
      for (const timer of timers.values()) clearTimeout(timer);
      timers.clear();
      await running;
    },
  };
}

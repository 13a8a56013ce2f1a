/** A task is either awaited by a starting pod, or can wait a little. */
export type Priority = 'urgent' | 'background';

export interface WorkQueue {
  /** Runs the task when it is its turn; undefined when the queue is full. */
  add<T>(priority: Priority, task: () => Promise<T>): Promise<T> | undefined;
  readonly waiting: number;
}

/** Runs a bounded number of tasks at a time, urgent ones first, and keeps a bounded number waiting. */
export function createWorkQueue(concurrency: number, maxWaiting: number): WorkQueue {
  const urgent: (() => void)[] = [];
  const background: (() => void)[] = [];
  let running = 0;
  const next = (): void => {
    running -= 1;
    const start = urgent.shift() ?? background.shift();
    if (start === undefined) return;
    running += 1;
    start();
  };
  return {
    get waiting() {
      return urgent.length + background.length;
    },
    add: <T>(priority: Priority, task: () => Promise<T>) => {
      if (running >= concurrency && urgent.length + background.length >= maxWaiting)
        return undefined;
      const turn = new Promise<void>((resolve) => {
        if (running < concurrency) {
          running += 1;
          resolve();
        } else {
          (priority === 'urgent' ? urgent : background).push(resolve);
        }
      });
      return turn.then(task).finally(next);
    },
  };
}

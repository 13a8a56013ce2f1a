/** What a process still waits for before it is ready, by name. */
export interface Readiness {
  /** Adds a task; the process is not ready until the returned function was called. */
  register(task: string): () => void;
  readonly ready: boolean;
  readonly pending: readonly string[];
}

export function createReadiness(onReady?: () => void): Readiness {
  const tasks = new Set<string>();
  let told = false;
  return {
    register(task) {
      tasks.add(task);
      return () => {
        tasks.delete(task);
        if (tasks.size === 0 && !told) {
          told = true;
          onReady?.();
        }
      };
    },
    get ready() {
      return tasks.size === 0;
    },
    get pending() {
      return [...tasks];
    },
  };
}

export type DrainMode = 'graceful' | 'immediate';

/** Passed down to whatever must end when the process does. */
export interface DrainWatcher {
  readonly draining: boolean;
  /** Calls `onDrain` once when draining begins (at once if it already has); returns how to stop listening. */
  watch(onDrain: (mode: DrainMode) => void): () => void;
  /** Holds the drain open until the returned function is called: one for each thing that is still working. */
  hold(): () => void;
}

export interface DrainTrigger {
  /** Starts draining. Resolves true when every holder let go, false when the deadline came first. */
  start(mode: DrainMode, deadlineMs: number): Promise<boolean>;
}

/** A drain is a value: who holds the trigger starts it, who holds the watcher takes part in it. */
export function createDrain(): { readonly trigger: DrainTrigger; readonly watcher: DrainWatcher } {
  const listeners = new Set<(mode: DrainMode) => void>();
  const waiting = new Set<() => void>();
  let holders = 0;
  let begun: DrainMode | undefined;

  const released = (): void => {
    if (holders > 0) return;
    for (const wake of waiting) wake();
    waiting.clear();
  };
  const watcher: DrainWatcher = {
    get draining() {
      return begun !== undefined;
    },
    watch(onDrain) {
      if (begun !== undefined) onDrain(begun);
      else listeners.add(onDrain);
      return () => void listeners.delete(onDrain);
    },
    hold() {
      holders += 1;
      let held = true;
      return () => {
        if (!held) return;
        held = false;
        holders -= 1;
        released();
      };
    },
  };
  const trigger: DrainTrigger = {
    async start(mode, deadlineMs) {
      if (begun === undefined) {
        begun = mode;
        for (const listener of [...listeners]) listener(mode);
        listeners.clear();
      }
      if (holders === 0) return true;
      return new Promise<boolean>((resolve) => {
        const timer = setTimeout(() => {
          waiting.delete(wake);
          resolve(false);
        }, deadlineMs);
        const wake = (): void => {
          clearTimeout(timer);
          resolve(true);
        };
        waiting.add(wake);
      });
    },
  };
  return { trigger, watcher };
}

export interface DebounceTimes {
  /** Changes wait until none has come for this long … */
  readonly quietMs: number;
  /** … but none longer than this. */
  readonly maxMs: number;
}

/** Long enough to take a Deployment's burst in one push, short enough that nobody notices. */
export const defaultDebounce: DebounceTimes = { quietMs: 10, maxMs: 1000 };

export interface Debounce {
  trigger(): void;
  /** Carries out what waits and takes no more. */
  close(): void;
}

/** Gathers triggers into one call of `run`. */
export function createDebounce(run: () => void, times: DebounceTimes): Debounce {
  let quiet: NodeJS.Timeout | undefined;
  let cap: NodeJS.Timeout | undefined;
  let closed = false;
  const fire = (): void => {
    clearTimeout(quiet);
    clearTimeout(cap);
    quiet = undefined;
    cap = undefined;
    run();
  };
  return {
    trigger: () => {
      if (closed) return;
      clearTimeout(quiet);
      quiet = setTimeout(fire, times.quietMs);
      cap ??= setTimeout(fire, times.maxMs);
    },
    close: () => {
      if (closed) return;
      closed = true;
      if (cap !== undefined) fire();
    },
  };
}

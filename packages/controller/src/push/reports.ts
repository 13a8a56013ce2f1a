import { isDeepStrictEqual } from 'node:util';

import type { Program, Report, ReportedProblem } from '@ambit/api';
import { subscriptions } from '@ambit/api';

import { isVisible } from './visible.ts';

const intervalMs = 1_000;

/** Of whom a report is, as its token says. */
interface Reporter {
  readonly program: Program;
  readonly caller: { readonly namespace: string };
}

/**
 * The reports of one connection. A proxy may speak of what it is told of and of nothing else, and is heard once a second:
 * each of its words may be a write of a status.
 */
export class ProxyReports {
  readonly #reporter: Reporter;
  readonly #onChange: (problems: readonly ReportedProblem[]) => void;
  #taken: readonly ReportedProblem[] = [];
  #latest: readonly ReportedProblem[] = [];
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(reporter: Reporter, onChange: (problems: readonly ReportedProblem[]) => void) {
    this.#reporter = reporter;
    this.#onChange = onChange;
  }

  take({ problems }: Report): void {
    const { program, caller } = this.#reporter;
    this.#latest = problems.filter(
      ({ type, name }) =>
        subscriptions[program].has(type) && isVisible(type, name, caller.namespace),
    );
    if (this.#timer === undefined) this.#apply();
  }

  /** What the proxy reported goes with it. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#latest = [];
    this.#apply();
  }

  #apply(): void {
    this.#timer = undefined;
    if (isDeepStrictEqual(this.#taken, this.#latest)) return;
    this.#taken = this.#latest;
    this.#onChange(this.#taken);
    if (this.#closed) return;
    this.#timer = setTimeout(() => this.#apply(), intervalMs);
    this.#timer.unref();
  }
}

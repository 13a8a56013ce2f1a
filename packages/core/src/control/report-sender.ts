import { isDeepStrictEqual } from 'node:util';
import type { Report, ReportedProblem } from '@ambit/api';
import { maxReportedProblems } from '@ambit/api';

const intervalMs = 1_000;

/** Tells the controller what a proxy cannot do: once a second at most, what it does not know yet, and anew where it forgot. */
export class ReportSender {
  readonly #send: (report: Report) => void;
  #latest: readonly ReportedProblem[] = [];
  /** What the controller knows; undefined while there is none. */
  #told: readonly ReportedProblem[] | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(send: (report: Report) => void) {
    this.#send = send;
  }

  set(problems: readonly ReportedProblem[]): void {
    this.#latest = problems.slice(0, maxReportedProblems);
    this.#tell();
  }

  connected(): void {
    this.#told = [];
    this.#tell();
  }

  lost(): void {
    this.#told = undefined;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #tell(): void {
    if (this.#told === undefined || this.#timer !== undefined) return;
    if (isDeepStrictEqual(this.#told, this.#latest)) return;
    this.#told = this.#latest;
    this.#send({ kind: 'report', problems: this.#latest });
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#tell();
    }, intervalMs);
    this.#timer.unref();
  }
}

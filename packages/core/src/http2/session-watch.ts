import { Deadline } from '../lifecycle/deadline.ts';
import type { SessionLimits } from './limits.ts';

export interface SessionWatchEvents {
  /** The peer owed something and did not send it in time. */
  readonly overdue: (what: 'preface' | 'header-block') => void;
  /** A PING is to be sent. */
  readonly ping: () => void;
  /** A PING was not answered in time. */
  readonly silent: () => void;
  /** There was no stream for as long as a session may live without. */
  readonly idle: () => void;
}

/** The clocks of one session. */
export class SessionWatch {
  readonly #limits: SessionLimits;
  readonly #events: SessionWatchEvents;
  #pings: NodeJS.Timeout | undefined;
  #preface: Deadline | undefined;
  #headerBlock: Deadline | undefined;
  #idle: NodeJS.Timeout | undefined;
  #answer: Deadline | undefined;

  constructor(limits: SessionLimits, hasStreams: () => boolean, events: SessionWatchEvents) {
    this.#limits = limits;
    this.#events = events;
    this.#preface = new Deadline(() => events.overdue('preface'), limits.prefaceTimeoutMs);
    if (limits.pingIntervalMs === 0) return;
    this.#pings = setInterval(() => {
      if (hasStreams()) this.#ping();
    }, limits.pingIntervalMs);
    this.#pings.unref();
  }

  settled(): void {
    this.#preface?.clear();
    this.#preface = undefined;
  }

  headersBegun(): void {
    this.#headerBlock ??= new Deadline(
      () => this.#events.overdue('header-block'),
      this.#limits.headerTimeoutMs,
    );
  }

  headersEnded(): void {
    this.#headerBlock?.clear();
    this.#headerBlock = undefined;
  }

  answered(): void {
    this.#answer?.clear();
    this.#answer = undefined;
  }

  /** The last stream is over. */
  streamless(): void {
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.#events.idle(), this.#limits.idleTimeoutMs);
    this.#idle.unref();
  }

  streamBegun(): void {
    clearTimeout(this.#idle);
  }

  stop(): void {
    this.settled();
    this.headersEnded();
    this.answered();
    clearTimeout(this.#idle);
    clearInterval(this.#pings);
  }

  #ping(): void {
    if (this.#answer !== undefined) return;
    this.#events.ping();
    this.#answer = new Deadline(() => this.#events.silent(), this.#limits.pingTimeoutMs).unref();
  }
}

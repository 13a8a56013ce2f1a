import type { HeaderChanges } from '@ambit/api';
import type { ByteStream } from '@ambit/core';
import { changeHeaders } from '../route/changes.ts';
import type { HeaderList } from './headers.ts';
import type {
  BodySink,
  ExchangeEvents,
  HttpError,
  ResponseHead,
  ServerExchange,
} from './message.ts';

/** The beginning of a body, or all of it. */
export interface HeldBody {
  readonly bytes: Buffer;
  readonly whole: boolean;
}

/**
 * An exchange whose body is looked at before it goes on: what was read is given to whoever attaches later, as if
 * nobody had. It also adds fields to the answer.
 */
export class CheckedExchange implements ServerExchange {
  readonly #inner: ServerExchange;
  #answer: HeaderChanges | undefined;
  #held: Buffer[] = [];
  #heldBytes = 0;
  #end: { readonly trailers: HeaderList | undefined } | undefined;
  #gone: HttpError | undefined;
  #watcher: ((error: HttpError) => void) | undefined;
  #full: (() => void) | undefined;
  #maxBytes = 0;
  #holding = false;
  #paused = false;
  #events: ExchangeEvents | undefined;
  #body: BodySink | undefined;

  constructor(inner: ServerExchange) {
    this.#inner = inner;
  }

  get request(): ServerExchange['request'] {
    return this.#inner.request;
  }

  get hasBody(): boolean {
    return this.#inner.hasBody;
  }

  get gone(): boolean {
    return this.#inner.gone;
  }

  /** Fields that the answer gets, whoever gives it. */
  answerWith(changes: HeaderChanges): void {
    this.#answer = changes;
  }

  /** Reads the body until it ends or is longer than allowed, and no further. */
  hold(maxBytes: number): Promise<HeldBody> {
    this.#holding = true;
    this.#maxBytes = maxBytes;
    return new Promise((resolve) => {
      this.#full = () => {
        this.#full = undefined;
        const whole = this.#end !== undefined && this.#heldBytes <= maxBytes;
        resolve({ bytes: Buffer.concat(this.#held).subarray(0, maxBytes), whole });
      };
      this.#inner.attach(
        {
          drain: () => this.#events?.drain(),
          gone: (error) => {
            this.#gone = error;
            this.#watcher?.(error);
            this.#events?.gone(error);
          },
        },
        { data: (chunk) => this.#data(chunk), end: (trailers) => this.#ended(trailers) },
      );
      if (!this.hasBody) this.#full();
    });
  }

  /** Nobody wants what was held, nor what comes. */
  discard(): void {
    this.#held = [];
    this.#full = undefined;
    this.#watcher = undefined;
  }

  #data(chunk: Buffer): void {
    if (this.#body !== undefined) {
      this.#body.data(chunk);
      return;
    }
    this.#held.push(chunk);
    this.#heldBytes += chunk.length;
    if (this.#heldBytes <= this.#maxBytes) return;
    this.#inner.pauseBody();
    this.#full?.();
  }

  #ended(trailers: HeaderList | undefined): void {
    this.#end = { trailers };
    if (this.#body !== undefined) this.#body.end(trailers);
    else this.#full?.();
  }

  attach(events: ExchangeEvents, body: BodySink): void {
    if (!this.#holding) {
      this.#inner.attach(events, body);
      return;
    }
    this.#events = events;
    this.#body = body;
    this.#watcher = undefined;
    if (this.#gone !== undefined) {
      events.gone(this.#gone);
      return;
    }
    for (const chunk of this.#held.splice(0)) body.data(chunk);
    if (this.#end !== undefined) body.end(this.#end.trailers);
    else if (!this.#paused) this.#inner.resumeBody();
  }

  watch(gone: ((error: HttpError) => void) | undefined): void {
    this.#watcher = gone;
    if (!this.#holding) this.#inner.watch(gone);
  }

  pauseBody(): void {
    this.#paused = true;
    this.#inner.pauseBody();
  }

  resumeBody(): void {
    this.#paused = false;
    this.#inner.resumeBody();
  }

  inform(head: ResponseHead): void {
    this.#inner.inform(head);
  }

  respond(head: ResponseHead, hasBody: boolean): void {
    if (this.#answer !== undefined) changeHeaders(head.headers, this.#answer);
    this.#inner.respond(head, hasBody);
  }

  write(chunk: Buffer): boolean {
    return this.#inner.write(chunk);
  }

  end(trailers?: HeaderList): void {
    this.#inner.end(trailers);
  }

  upgrade(head: ResponseHead): ByteStream | undefined {
    if (this.#answer !== undefined) changeHeaders(head.headers, this.#answer);
    return this.#inner.upgrade(head);
  }

  abort(error: Error): void {
    this.#inner.abort(error);
  }
}

import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '@ambit/core';
import type { Span } from './spans.ts';

export interface SpanExporterOptions {
  readonly kind: 'otlp' | 'zipkin';
  /** Of the provider, for the log. */
  readonly name: string;
  /** At the collector; the protocol's own where empty. */
  readonly path: string;
  /** Of one attempt; 0 for five seconds. */
  readonly timeoutMs: number;
  /** Resolves with the status that the collector answered. */
  readonly send: (request: {
    readonly path: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: string;
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
  }) => Promise<number>;
  readonly onDropped?: (count: number) => void;
  readonly serviceName: string;
  readonly resource: Readonly<Record<string, string>>;
  readonly logger: Logger;
  /** Most spans that wait, besides those on their way. */
  readonly maxQueue?: number;
  readonly batchSize?: number;
  /** Longest that a span waits for a batch to fill. */
  readonly intervalMs?: number;
  /** How long a collector that failed is left alone; twice as long each time, up to half a minute. */
  readonly backoffMs?: number;
}

export interface SpanExporter {
  add(span: Span): void;
  /** Sends what waits, within two seconds; what is not taken by then is dropped. */
  close(): Promise<void>;
  /** Spans that no collector took: the queue was full, or both attempts failed. */
  readonly dropped: number;
}

const defaultTimeoutMs = 5000;
const retryAfterMs = 250;
const maxBackoffMs = 30_000;
/** Well within what a program has to close itself, however long a collector may usually take. */
const closingMs = 2000;

/** A collector that is slow, broken or gone costs spans and one line of log, never a request. */
export function createSpanExporter(options: SpanExporterOptions): SpanExporter {
  return new BatchingExporter(options);
}

class BatchingExporter implements SpanExporter {
  readonly #logger: Logger;
  readonly #maxQueue: number;
  readonly #batchSize: number;
  readonly #encoding: Encoding;
  readonly #options: SpanExporterOptions;
  readonly #timeoutMs: number;
  readonly #backoffMs: number;
  readonly #ending = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #queue: string[] = [];
  #sending: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #failures = 0;
  #notBefore = 0;
  #dropped = 0;

  constructor(options: SpanExporterOptions) {
    const { kind, logger, maxQueue = 2048, batchSize = 512, intervalMs = 5000 } = options;
    this.#logger = logger;
    this.#maxQueue = maxQueue;
    this.#batchSize = Math.max(1, batchSize);
    this.#encoding = kind === 'otlp' ? otlp(options) : zipkin(options);
    this.#options = options;
    this.#timeoutMs = options.timeoutMs > 0 ? options.timeoutMs : defaultTimeoutMs;
    this.#backoffMs = options.backoffMs ?? 1000;
    this.#timer = setInterval(() => this.#flush(), intervalMs);
    this.#timer.unref();
  }

  get dropped(): number {
    return this.#dropped;
  }

  /** Encodes at once: the work is spread over the requests and never comes as one long pause. */
  add(span: Span): void {
    if (this.#closing !== undefined || this.#queue.length >= this.#maxQueue) {
      this.#drop(1);
      return;
    }
    try {
      this.#queue.push(this.#encoding.encode(span));
    } catch (error) {
      this.#drop(1);
      this.#tellFailure(error);
    }
    if (this.#queue.length >= this.#batchSize) this.#flush();
  }

  #drop(count: number): void {
    this.#dropped += count;
    this.#options.onDropped?.(count);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer);
    const deadline = setTimeout(() => this.#ending.abort(), closingMs);
    await this.#sending;
    this.#flush();
    await this.#sending;
    clearTimeout(deadline);
  }

  #flush(): void {
    if (this.#sending !== undefined || this.#queue.length === 0) return;
    // At the end there is no later.
    if (this.#closing === undefined && performance.now() < this.#notBefore) return;
    this.#sending = this.#drain().finally(() => {
      this.#sending = undefined;
    });
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, this.#batchSize);
      try {
        await this.#sendTwice(this.#encoding.wrap(batch));
        if (this.#failures > 0)
          this.#logger.info({ dropped: this.#dropped }, 'spans are taken again');
        this.#failures = 0;
      } catch (error) {
        this.#drop(batch.length);
        this.#tellFailure(error);
        if (this.#closing === undefined) return;
      }
      if (!this.#ending.signal.aborted) continue;
      this.#drop(this.#queue.length);
      this.#queue = [];
    }
  }

  /** Once for every time that it begins. */
  #tellFailure(error: unknown): void {
    const waitMs = Math.min(this.#backoffMs * 2 ** this.#failures, maxBackoffMs);
    this.#notBefore = performance.now() + waitMs;
    this.#failures += 1;
    if (this.#failures > 1) return;
    const reason = error instanceof Error ? error.message : String(error);
    this.#logger.warn({ provider: this.#options.name, reason }, 'spans are not taken and dropped');
  }

  async #sendTwice(body: string): Promise<void> {
    try {
      await this.#send(body);
    } catch (error) {
      if (error instanceof Refused && !error.temporary) throw error;
      await sleep(retryAfterMs, undefined, { signal: this.#ending.signal });
      await this.#send(body);
    }
  }

  async #send(body: string): Promise<void> {
    const { path } = this.#options;
    const status = await this.#options.send({
      path: path === '' || path === '/' ? this.#encoding.path : path,
      headers: { 'content-type': 'application/json' },
      body,
      timeoutMs: this.#timeoutMs,
      signal: AbortSignal.any([AbortSignal.timeout(this.#timeoutMs), this.#ending.signal]),
    });
    if (status < 200 || status > 299) throw new Refused(status);
  }
}

class Refused extends Error {
  readonly temporary: boolean;

  constructor(status: number) {
    super(`the collector answered ${status}`);
    this.temporary = status === 429 || status >= 500;
  }
}

interface Encoding {
  readonly path: string;
  encode(span: Span): string;
  /** The body of a request from spans that are encoded already. */
  wrap(spans: readonly string[]): string;
}

const otlpKinds = { server: 2, client: 3 } as const;
const otlpError = 2;

function otlp({ serviceName, resource }: SpanExporterOptions): Encoding {
  const attributes = JSON.stringify(otlpAttributes({ ...resource, 'service.name': serviceName }));
  const before = `{"resourceSpans":[{"resource":{"attributes":${attributes}},"scopeSpans":[{"scope":{"name":"ambit-waypoint"},"spans":[`;
  return {
    path: '/v1/traces',
    encode: (span) =>
      JSON.stringify({
        traceId: span.traceId,
        spanId: span.spanId,
        parentSpanId: span.parentSpanId,
        name: span.name,
        kind: otlpKinds[span.kind],
        startTimeUnixNano: nanoseconds(span.startMs),
        endTimeUnixNano: nanoseconds(span.endMs),
        attributes: otlpAttributes(span.attributes),
        status: span.error ? { code: otlpError } : {},
      }),
    wrap: (spans) => `${before}${spans.join(',')}]}]}]}`,
  };
}

function otlpAttributes(attributes: Readonly<Record<string, string>>) {
  return Object.entries(attributes).map(([key, value]) => ({ key, value: { stringValue: value } }));
}

/** As text of a 64-bit number, of which a JSON number would keep 53. */
function nanoseconds(ms: number): string {
  return `${BigInt(Math.round(ms * 1000))}000`;
}

/** Zipkin knows no resource; its attributes stand with each span. */
function zipkin({ serviceName, resource }: SpanExporterOptions): Encoding {
  return {
    path: '/api/v2/spans',
    encode: (span) => {
      const timestamp = Math.round(span.startMs * 1000);
      return JSON.stringify({
        traceId: span.traceId,
        id: span.spanId,
        parentId: span.parentSpanId,
        name: span.name,
        kind: span.kind === 'server' ? 'SERVER' : 'CLIENT',
        timestamp,
        // Zipkin takes 0 for unknown.
        duration: Math.max(1, Math.round(span.endMs * 1000) - timestamp),
        localEndpoint: { serviceName },
        tags: { ...resource, ...span.attributes, ...(span.error && { error: 'true' }) },
      });
    },
    wrap: (spans) => `[${spans.join(',')}]`,
  };
}

import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '@ambit/core';
import { Agent, request } from 'undici';
import type { Span } from './spans.ts';

export interface SpanExporterOptions {
  readonly kind: 'otlp' | 'zipkin';
  /** Of the collector; with a path it is used as it stands, without one the protocol's own path is added. */
  readonly url: string;
  readonly serviceName: string;
  readonly resource: Readonly<Record<string, string>>;
  readonly logger: Logger;
  /** Most spans that wait, besides those on their way. */
  readonly maxQueue?: number;
  readonly batchSize?: number;
  /** Longest that a span waits for a batch to fill. */
  readonly intervalMs?: number;
}

export interface SpanExporter {
  add(span: Span): void;
  /** Sends what waits, within the time of one attempt; what is not taken by then is dropped. */
  close(): Promise<void>;
  /** Spans that no collector took: the queue was full, or both attempts failed. */
  readonly dropped: number;
}

const timeoutMs = 5000;
const retryAfterMs = 250;
const maxAnswerBytes = 65_536;

/** A collector that is slow, broken or gone costs spans and one line of log, never a request. */
export function createSpanExporter(options: SpanExporterOptions): SpanExporter {
  return new BatchingExporter(options);
}

class BatchingExporter implements SpanExporter {
  readonly #logger: Logger;
  readonly #maxQueue: number;
  readonly #batchSize: number;
  readonly #encoding: Encoding;
  readonly #url: URL | undefined;
  readonly #agent = new Agent({ connections: 1, connect: { timeout: timeoutMs } });
  readonly #ending = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #queue: string[] = [];
  #sending: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #failing = false;
  #dropped = 0;

  constructor(options: SpanExporterOptions) {
    const { kind, logger, maxQueue = 2048, batchSize = 512, intervalMs = 5000 } = options;
    this.#logger = logger;
    this.#maxQueue = maxQueue;
    this.#batchSize = Math.max(1, batchSize);
    this.#encoding = kind === 'otlp' ? otlp(options) : zipkin(options);
    this.#url = endpoint(options.url, this.#encoding.path);
    if (this.#url === undefined) {
      logger.error({ kind }, 'the URL of the trace collector is none; spans are dropped');
    }
    this.#timer = setInterval(() => this.#flush(), intervalMs);
    this.#timer.unref();
  }

  get dropped(): number {
    return this.#dropped;
  }

  /** Encodes at once: the work is spread over the requests and never comes as one long pause. */
  add(span: Span): void {
    const refused = this.#closing !== undefined || this.#url === undefined;
    if (refused || this.#queue.length >= this.#maxQueue) {
      this.#dropped += 1;
      return;
    }
    try {
      this.#queue.push(this.#encoding.encode(span));
    } catch (error) {
      this.#dropped += 1;
      this.#tellFailure(error);
    }
    if (this.#queue.length >= this.#batchSize) this.#flush();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer);
    const deadline = setTimeout(() => this.#ending.abort(), timeoutMs);
    await this.#sending;
    this.#flush();
    await this.#sending;
    clearTimeout(deadline);
    await this.#agent.destroy().catch(() => undefined);
  }

  #flush(): void {
    if (this.#sending !== undefined || this.#queue.length === 0) return;
    this.#sending = this.#drain().finally(() => {
      this.#sending = undefined;
    });
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, this.#batchSize);
      try {
        await this.#sendTwice(this.#encoding.wrap(batch));
        if (this.#failing) this.#logger.info({ dropped: this.#dropped }, 'spans are taken again');
        this.#failing = false;
      } catch (error) {
        this.#dropped += batch.length;
        this.#tellFailure(error);
      }
      if (!this.#ending.signal.aborted) continue;
      this.#dropped += this.#queue.length;
      this.#queue = [];
    }
  }

  /** Once for every time that it begins. */
  #tellFailure(error: unknown): void {
    if (this.#failing) return;
    this.#failing = true;
    const reason = error instanceof Error ? error.message : String(error);
    this.#logger.warn({ collector: this.#url?.host, reason }, 'spans are not taken and dropped');
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
    if (this.#url === undefined) return;
    const answer = await request(this.#url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
      dispatcher: this.#agent,
      signal: AbortSignal.any([AbortSignal.timeout(timeoutMs), this.#ending.signal]),
    });
    await answer.body.dump({ limit: maxAnswerBytes });
    if (answer.statusCode < 200 || answer.statusCode > 299) throw new Refused(answer.statusCode);
  }
}

class Refused extends Error {
  readonly temporary: boolean;

  constructor(status: number) {
    super(`the collector answered ${status}`);
    this.temporary = status === 429 || status >= 500;
  }
}

function endpoint(text: string, path: string): URL | undefined {
  const url = URL.parse(text);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) return undefined;
  if (url.pathname === '/') url.pathname = path;
  return url;
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

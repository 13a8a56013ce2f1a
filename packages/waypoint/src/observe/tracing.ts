import type { CustomTag } from '@ambit/api';
import type { Logger, TelemetryFacts } from '@ambit/core';
import { compileFormat } from '@ambit/core';
import type { HeaderList } from '../http/headers.ts';
import type { SpanExporter } from './exporters.ts';
import { createSpanExporter } from './exporters.ts';
import { randomDigits } from './random.ts';
import type { ResolvedTelemetry, TracingProvider } from './resolve.ts';
import type { SpanReporter } from './spans.ts';
import { requestSpan } from './spans.ts';
import type { TraceContext } from './trace-context.ts';
import { beginTrace, childContext, continueTrace, isTraceHeader } from './trace-context.ts';

/** One request's place in its trace. */
export class RequestTrace {
  readonly context: TraceContext;
  /** Spans of it are told to a collector. */
  readonly reported: boolean;
  /** What the next hop is told. */
  forwarded: TraceContext;
  /** When it was sent on; undefined for what was answered here. */
  forwardedAtMs: number | undefined;

  constructor(context: TraceContext, reported: boolean) {
    this.context = context;
    this.reported = reported;
    this.forwarded = context;
  }

  /** It is sent on now: with a span of its own where spans are told. */
  forwarding(): void {
    if (!this.reported) return;
    this.forwarded = childContext(this.context, randomDigits);
    this.forwardedAtMs = Date.now();
  }
}

export interface TracedRequest extends TelemetryFacts {
  /** The host and port of whom the request is for. */
  readonly operation: string;
}

export interface Tracer {
  readonly reports: boolean;
  begin(headers: HeaderList): RequestTrace;
  end(request: TracedRequest, trace: RequestTrace): void;
}

export interface TracerParts {
  readonly random: () => number;
  readonly reporter: SpanReporter;
  readonly environment: (name: string) => string | undefined;
  readonly exporters: SpanExporters;
}

export function createTracer(settings: ResolvedTelemetry['tracing'], parts: TracerParts): Tracer {
  const { provider, samplingPercent, istioTags } = settings;
  const options = { samplingPercent, random: parts.random, randomDigits };
  const key = JSON.stringify(provider);
  const tags = settings.customTags.map((tag) => [tag.name, readerOf(tag, parts)] as const);
  return {
    reports: provider !== undefined,
    begin: (headers) => {
      // One look at the names is cheaper than one for each of them.
      const told = headers.some(isTraceHeader);
      const context = told
        ? continueTrace((name) => headers.get(name), options)
        : beginTrace(options);
      return new RequestTrace(context, provider !== undefined && context.sampled);
    },
    end: (request, { context, reported, forwarded, forwardedAtMs }) => {
      if (!reported || provider === undefined) return;
      const exporter = parts.exporters.of(key, provider);
      const common = {
        entry: request,
        operation: request.operation,
        reporter: parts.reporter,
        istioTags,
        maxPathChars: provider.maxTagLength,
        customTags: tags.flatMap(([name, read]): [string, string][] => {
          const value = read(request);
          return value === '' ? [] : [[name, value]];
        }),
      };
      exporter.add(requestSpan({ ...common, kind: 'server', context }));
      if (forwardedAtMs === undefined) return;
      exporter.add(
        requestSpan({ ...common, kind: 'client', context: forwarded, startMs: forwardedAtMs }),
      );
    },
  };
}

function readerOf(tag: CustomTag, { environment }: TracerParts): (facts: TelemetryFacts) => string {
  switch (tag.kind) {
    case 'literal':
      return () => tag.value;
    case 'environment': {
      const value = environment(tag.from) ?? tag.fallback;
      return () => value;
    }
    case 'header':
      return (facts) => facts.requestHeader(tag.from) ?? tag.fallback;
    case 'format': {
      const render = compileFormat(tag.format);
      return render.ok ? (facts) => render.value(facts).trimEnd() : () => '';
    }
  }
}

/** Sends one request to a collector; resolves with the status of the answer. */
export type SendSpans = (
  provider: TracingProvider,
  request: {
    readonly path: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: string;
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
  },
) => Promise<number>;

export interface SpanExporters {
  /** `key` is all that the provider says, as one text. */
  of(key: string, provider: TracingProvider): SpanExporter;
  /** Sends what waits and ends. */
  close(): Promise<void>;
}

const maxExporters = 16;

/** One exporter for each provider that is in use; a provider that is another one now begins anew. */
export function createSpanExporters(options: {
  readonly serviceName: string;
  readonly resource: Readonly<Record<string, string>>;
  readonly logger: Logger;
  readonly onDropped: (count: number) => void;
  readonly send: SendSpans;
}): SpanExporters {
  const { serviceName, resource, logger, onDropped, send } = options;
  const known = new Map<string, SpanExporter>();
  const ending = new Set<Promise<void>>();
  const end = (exporter: SpanExporter): void => {
    const ended = exporter.close().finally(() => ending.delete(ended));
    ending.add(ended);
  };
  return {
    of: (key, provider) => {
      const there = known.get(key);
      if (there !== undefined) return there;
      const [oldest] = known;
      if (known.size >= maxExporters && oldest !== undefined) {
        known.delete(oldest[0]);
        end(oldest[1]);
      }
      const http = provider.kind === 'opentelemetry' ? provider.http : undefined;
      const path = provider.kind === 'zipkin' ? provider.path : http?.path;
      const made = createSpanExporter({
        kind: provider.kind === 'zipkin' ? 'zipkin' : 'otlp',
        name: provider.name,
        path: path ?? '',
        timeoutMs: http?.timeoutMs ?? 0,
        serviceName,
        resource,
        logger,
        onDropped,
        send: (request) =>
          send(provider, {
            ...request,
            headers: { ...request.headers, ...Object.fromEntries(http?.headers ?? []) },
          }),
      });
      known.set(key, made);
      return made;
    },
    close: async () => {
      for (const exporter of known.values()) end(exporter);
      known.clear();
      await Promise.all(ending);
    },
  };
}

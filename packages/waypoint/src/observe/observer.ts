import type { Gateway, PolicyTarget } from '@ambit/api';
import type { Logger, MeshState, RenderLine, TelemetryFacts } from '@ambit/core';
import { compileFilter, compileTag } from '@ambit/core';
import type { HeaderList } from '../http/headers.ts';
import type { AccessLog, LogWriter } from './access.ts';
import { formatOf } from './access.ts';
import type {
  MetricChange,
  Recorder,
  RequestFigures,
  TcpFigures,
  WaypointMetrics,
} from './metrics.ts';
import type { ResolvedTelemetry } from './resolve.ts';
import { layersFor, resolveTelemetry } from './resolve.ts';
import type { RequestTrace, TracedRequest, Tracer, TracerParts } from './tracing.ts';
import { createTracer } from './tracing.ts';

/** Who is told of requests and connections to one set of targets. */
export interface Observer {
  /** True where spans are told, so that every request needs a trace. */
  readonly traces: boolean;
  trace(headers: HeaderList): RequestTrace;
  request(request: RequestFigures & TracedRequest, trace: RequestTrace | undefined): void;
  /** Messages of a gRPC stream that lasts, which have not been told yet. */
  messages(request: RequestFigures): void;
  tcp(facts: TelemetryFacts): TcpFigures;
  /** A connection is over. */
  connection(facts: TelemetryFacts): void;
}

export interface TelemetryParts extends TracerParts {
  readonly state: MeshState;
  readonly metrics: WaypointMetrics;
  readonly access: AccessLog;
  readonly defaultFormat: 'text' | 'json';
  readonly logger: Logger;
}

/** Of a connection: what Telemetry may be attached to, and whose waypoint this is. */
export interface ObservedTraffic {
  readonly targets: readonly PolicyTarget[];
  readonly gateway: Pick<Gateway, 'namespace'>;
}

interface Known {
  readonly generation: number;
  readonly observer: Observer;
}

/** Looks Telemetry up once for a connection and change of it; what comes out the same keeps its series and spans. */
export class TelemetryCache {
  readonly #parts: TelemetryParts;
  readonly #known = new WeakMap<readonly PolicyTarget[], Known>();
  #observers = new Map<string, Observer>();
  #generation = 0;

  constructor(parts: TelemetryParts) {
    this.#parts = parts;
    parts.state.subscribe((changes) => {
      if (!changes.has('telemetry') && !changes.has('mesh')) return;
      this.#generation += 1;
      this.#forget();
    });
  }

  of({ targets, gateway }: ObservedTraffic): Observer {
    const known = this.#known.get(targets);
    if (known?.generation === this.#generation) return known.observer;
    const { state } = this.#parts;
    const mesh = state.mesh();
    const { namespace } = gateway;
    const rootNamespace = mesh?.rootNamespace ?? '';
    const layers = layersFor(state.telemetries(), { namespace, rootNamespace, targets });
    const resolved = resolveTelemetry(layers, mesh ?? noMesh);
    const key = JSON.stringify(resolved);
    let observer = this.#observers.get(key);
    if (observer === undefined) {
      observer = createObserver(resolved, this.#parts);
      this.#observers.set(key, observer);
    }
    this.#known.set(targets, { generation: this.#generation, observer });
    return observer;
  }

  /** Many changes may leave many behind. */
  #forget(): void {
    if (this.#observers.size > maxObservers) this.#observers = new Map();
  }
}

const maxObservers = 256;
const noMesh = {
  providers: [],
  defaultProviders: { metrics: ['prometheus'], accessLogging: ['envoy'], tracing: [] },
  traceSamplingPercent: 0,
  rootNamespace: '',
};

function createObserver(resolved: ResolvedTelemetry, parts: TelemetryParts): Observer {
  const recorder = recorderOf(resolved.metrics, parts);
  const logs = resolved.logs.flatMap((log) => writerOf(log, parts));
  const tracer: Tracer = createTracer(resolved.tracing, parts);
  const log = (facts: TelemetryFacts): void => {
    for (const { filter, render } of logs) {
      if (filter === undefined || filter(facts)) parts.access.write(render(facts));
    }
  };
  return {
    traces: tracer.reports,
    trace: (headers) => tracer.begin(headers),
    request: (request, trace) => {
      recorder.request(request);
      log(request);
      if (trace?.reported === true) tracer.end(request, trace);
    },
    messages: (request) => recorder.messages(request),
    tcp: (facts) => recorder.tcp(facts),
    connection: log,
  };
}

const noTcp: TcpFigures = {
  opened: () => undefined,
  bytes: () => undefined,
  closed: () => undefined,
};
const noRecorder: Recorder = {
  request: () => undefined,
  messages: () => undefined,
  tcp: () => noTcp,
};

function recorderOf(resolved: ResolvedTelemetry['metrics'], parts: TelemetryParts): Recorder {
  if (resolved === 'off') return noRecorder;
  const compiled = new Map<string, MetricChange['tags'][number]['read']>();
  const readerOf = (value: string): ((facts: TelemetryFacts) => string) => {
    let read = compiled.get(value);
    if (read === undefined) {
      const tag = compileTag(value);
      read = tag.ok ? tag.value : () => 'unknown';
      compiled.set(value, read);
    }
    return read;
  };
  return parts.metrics.recorder(
    new Map(
      resolved.map(({ metric, disabled, tags }) => [
        metric,
        {
          disabled,
          tags: tags.map(([name, value]) => ({
            name,
            read: value === undefined ? undefined : readerOf(value),
          })),
        },
      ]),
    ),
  );
}

/** A filter or format that cannot be used hides nothing: everything is logged, in the default format. */
function writerOf(
  { provider, filter }: ResolvedTelemetry['logs'][number],
  { defaultFormat, logger }: TelemetryParts,
): readonly LogWriter[] {
  const compiled = filter === undefined ? undefined : compileFilter(filter);
  if (compiled?.ok === false) {
    logger.warn({ filter, error: compiled.error }, 'filter of the access log is not used');
  }
  const told = (format: Parameters<typeof formatOf>[0]): RenderLine | undefined => {
    const render = formatOf(format, defaultFormat);
    if (render.ok) return render.value;
    logger.warn({ provider: provider.name, error: render.error }, 'access log format is not used');
    return undefined;
  };
  const render = told(provider.format) ?? told({ kind: 'default-text' });
  if (render === undefined) return [];
  return [{ render, filter: compiled?.ok === true ? compiled.value : undefined }];
}

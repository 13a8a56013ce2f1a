import type { IpAddress } from '@ambit/api';
import { podUid } from '@ambit/api';
import type { Logger, MeshState } from '@ambit/core';
import type { HttpClient } from '../client/http.ts';
import type { WaypointConfig } from '../config.ts';
import type { LineSink } from './access.ts';
import { createAccessLog } from './access.ts';
import type { WaypointMetrics } from './metrics.ts';
import { TelemetryCache } from './observer.ts';
import type { SpanReporter } from './spans.ts';
import type { SendSpans } from './tracing.ts';
import { createSpanExporters } from './tracing.ts';

export interface TelemetryDeps {
  readonly state: MeshState;
  readonly metrics: WaypointMetrics;
  readonly logger: Logger;
  readonly sink: LineSink;
  readonly http: HttpClient;
  readonly random: () => number;
}

export interface WaypointTelemetry {
  readonly cache: TelemetryCache;
  /** Sends the spans that wait; needs the client, so it comes before that is closed. */
  close(): Promise<void>;
  /** Writes what waits of the access log, at the very end. */
  flush(): void;
}

/** Puts together what tells of a waypoint's traffic. */
export function createTelemetry(config: WaypointConfig, deps: TelemetryDeps): WaypointTelemetry {
  const { state, metrics, logger, sink, http, random } = deps;
  const uid = podUid(config.clusterId, config.namespace, config.instance);
  const exporters = createSpanExporters({
    serviceName: `${config.gatewayName}.${config.namespace}`,
    resource: {
      'k8s.pod.name': config.instance,
      'k8s.namespace.name': config.namespace,
      'k8s.cluster.name': config.clusterId,
    },
    logger: logger.child({ scope: 'tracing' }),
    onDropped: (count) => metrics.spansDropped(count),
    send: sendBy(http),
  });
  const access = createAccessLog(sink);
  const cache = new TelemetryCache({
    state,
    metrics,
    exporters,
    random,
    logger,
    access,
    defaultFormat: config.logFormat,
    environment: config.environment,
    reporter: reporterOf(config, () => state.workload(uid)?.addresses[0]),
  });
  return { cache, close: () => exporters.close(), flush: () => access.flush() };
}

const maxAnswerBytes = 64 * 1024;

function sendBy(http: HttpClient): SendSpans {
  return async ({ address }, { path, headers, body, timeoutMs, signal }) => {
    const { status } = await http.request({
      address,
      method: 'POST',
      path,
      headers: Object.entries(headers),
      body: Buffer.from(body),
      timeoutMs,
      maxAnswerBytes,
      signal,
    });
    return status;
  };
}

function reporterOf(
  { gatewayName, namespace, instance, trustDomain, clusterId }: WaypointConfig,
  address: () => IpAddress | undefined,
): SpanReporter {
  return {
    // Known once the state is.
    get nodeId() {
      return `waypoint~${address() ?? ''}~${instance}.${namespace}~${namespace}.svc.cluster.local`;
    },
    canonicalService: gatewayName,
    canonicalRevision: 'latest',
    namespace,
    meshId: trustDomain,
    clusterId,
  };
}

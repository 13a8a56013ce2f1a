import type { Logger, Metrics } from '@ambit/core';
import type { ClusterObserver } from '../forward/observer.ts';

/** Tells logs and metrics what happens to clusters and their endpoints. */
export function createClusterObserver(metrics: Metrics, logger: Logger): ClusterObserver {
  const ejections = metrics.counter(
    'ambit_endpoint_ejections_total',
    'Endpoints taken out because they failed again and again.',
    ['cluster', 'reason'],
  );
  const overflows = metrics.counter(
    'ambit_circuit_breaker_overflow_total',
    'Requests, repeats and connections refused by a limit of a cluster.',
    ['cluster', 'limit'],
  );
  const endpoints = metrics.gauge('ambit_cluster_endpoints', 'Endpoints of a cluster by state.', [
    'cluster',
    'state',
  ]);
  const states = ['healthy', 'ejected', 'unhealthy'] as const;
  return {
    ejected(cluster, host, { reason, forMs }) {
      ejections.inc({ cluster, reason });
      logger.warn(
        { cluster, 'dst.workload': host.workload.name, endpoint: host.id, reason, forMs },
        'endpoint ejected',
      );
    },
    returned(cluster, host) {
      logger.info(
        { cluster, 'dst.workload': host.workload.name, endpoint: host.id },
        'endpoint is back',
      );
    },
    checked(cluster, host, healthy) {
      const facts = { cluster, 'dst.workload': host.workload.name, endpoint: host.id };
      if (healthy) logger.info(facts, 'endpoint passes its health check again');
      else logger.warn(facts, 'endpoint fails its health check');
    },
    counted(cluster, counts) {
      for (const state of states) endpoints.set({ cluster, state }, counts[state]);
    },
    overflowed: (cluster, limit) => overflows.inc({ cluster, limit }),
    removed(cluster) {
      for (const state of states) endpoints.remove({ cluster, state });
    },
  };
}

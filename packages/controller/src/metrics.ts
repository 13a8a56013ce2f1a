import { resourceTypes } from '@ambit/api';
import type { Metrics } from '@ambit/core';

/** What the controller counts. Labels have few values, whoever asks whatever. */
export interface ControllerMetrics {
  certificates(outcome: string): void;
  push(): void;
  rejected(type: string): void;
  validated(outcome: string): void;
  /** Brought up to date when the metrics are read. */
  observe(figures: Figures): void;
}

export interface Figures {
  readonly proxies: number;
  /** Whether this controller is the one that writes. */
  readonly writes: boolean;
  /** Meshes that run in the cluster beside this one. */
  readonly otherMeshes: number;
  /** Of what is named by others and watched one by one: how many are not read because too many are named, by kind. */
  readonly unread: ReadonlyMap<string, number>;
  /** Seconds since each watch showed a sign of life, by kind. */
  readonly watchAges: ReadonlyMap<string, number>;
  readonly recomputations: ReadonlyMap<string, number>;
  readonly resources: ReadonlyMap<string, number>;
  /** Milliseconds since 1970 at which the authority's certificate, or one by which it is trusted, ends. */
  readonly authorityEndsMs: number | undefined;
}

export function createControllerMetrics(metrics: Metrics): ControllerMetrics {
  const certificates = metrics.counter(
    'ambit_ca_certificates_total',
    'Certificate requests by outcome.',
    ['outcome'],
  );
  const pushes = metrics.counter('ambit_pushes_total', 'Pushes of changes to all proxies.', []);
  const rejected = metrics.counter(
    'ambit_push_rejected_total',
    'Resources that a proxy refused, by type.',
    ['type'],
  );
  const validated = metrics.counter('ambit_validations_total', 'Admission reviews by outcome.', [
    'outcome',
  ]);
  const proxies = metrics.gauge('ambit_proxies_connected', 'Proxies on the control channel.', []);
  const writes = metrics.gauge(
    'ambit_leader',
    '1 while this controller is the one that writes.',
    [],
  );
  const otherMeshes = metrics.gauge(
    'ambit_other_meshes',
    'Other meshes whose control planes run in the cluster; there must be none.',
    [],
  );
  const unread = metrics.gauge(
    'ambit_named_objects_unread',
    'Secrets and ConfigMaps that are named and not read because too many are.',
    ['kind'],
  );
  const ages = metrics.gauge(
    'ambit_watch_age_seconds',
    'Time since a watch of the Kubernetes API showed a sign of life.',
    ['kind'],
  );
  const recomputations = metrics.gauge(
    'ambit_collection_recomputations',
    'How often a stage of the compilation has computed a value.',
    ['stage'],
  );
  const resources = metrics.gauge('ambit_resources', 'Compiled resources by type.', ['type']);
  const authorityEnds = metrics.gauge(
    'ambit_ca_certificate_end_timestamp_seconds',
    "End of the authority's certificate, in seconds since 1970.",
    [],
  );
  return {
    certificates: (outcome) => certificates.inc({ outcome }),
    push: () => pushes.inc({}),
    validated: (outcome) => validated.inc({ outcome }),
    rejected: (type) => rejected.inc({ type: knownTypes.has(type) ? type : 'other' }),
    observe: (figures) => {
      writes.set(figures.writes ? 1 : 0);
      proxies.set(figures.proxies);
      otherMeshes.set(figures.otherMeshes);
      for (const [kind, count] of figures.unread) unread.set({ kind }, count);
      for (const [kind, age] of figures.watchAges) ages.set({ kind }, age);
      for (const [stage, count] of figures.recomputations) recomputations.set({ stage }, count);
      for (const [type, count] of figures.resources) resources.set({ type }, count);
      if (figures.authorityEndsMs !== undefined) authorityEnds.set(figures.authorityEndsMs / 1000);
    },
  };
}

const knownTypes: ReadonlySet<string> = new Set(resourceTypes);

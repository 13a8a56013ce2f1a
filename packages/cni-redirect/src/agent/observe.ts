import type { Logger, Metrics } from '@ambit/core';
import { causeChain, errnoCode } from '@ambit/core';
import type { PodFacts } from './enrol.ts';

/** What of a pod's capture was gone although the pod was in the mesh. */
export type Lost = 'rules' | 'changed' | 'listeners';

export type PodEvent = 'CaptureLost' | 'CaptureFailed';

/** Where the agent says what became of a pod: its log, its metrics, and events on the pod. */
export interface Observer {
  captured(pod: PodFacts): void;
  released(pod: PodFacts): void;
  lost(pod: PodFacts, what: Lost): void;
  failed(pod: PodFacts, error: unknown, retryMs: number): void;
  gone(pod: PodFacts): void;
}

export interface ObserverOptions {
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Puts an event of the type Warning on the pod. */
  readonly record: (pod: PodFacts, reason: PodEvent, message: string) => Promise<void>;
  readonly onGone: (pod: PodFacts) => void;
}

const lostText = {
  rules:
    'the redirection rules of this pod were gone, so it was outside the mesh; no connection begins until they are back',
  changed:
    'somebody changed the redirection rules of this pod, so some of its connections may have gone past the mesh; they are put back',
  listeners:
    'ztunnel did not listen in this pod, so its connections were refused; it is asked again',
} as const;

export function createObserver({ logger, metrics, record, onGone }: ObserverOptions): Observer {
  const repairs = metrics.counter(
    'ambit_cni_capture_lost_total',
    'Captured pods that were found without their redirection rules, with others, or without a listener, by what was lost.',
    ['lost'],
  );
  const failures = metrics.counter(
    'ambit_cni_capture_failures_total',
    'Attempts to capture or release a pod that failed.',
    [],
  );
  /** Last failure told as an event, so that a pod that is tried for hours gets one and not thousands. */
  const told = new Map<string, string>();
  const tell = (pod: PodFacts, reason: PodEvent, message: string): void => {
    record(pod, reason, message).catch((error: unknown) =>
      logger.debug({ pod: nameOf(pod), err: error }, 'event not recorded'),
    );
  };
  return {
    captured(pod) {
      told.delete(pod.uid);
      logger.info({ pod: nameOf(pod) }, 'pod captured');
    },
    released(pod) {
      told.delete(pod.uid);
      logger.info({ pod: nameOf(pod) }, 'pod released');
    },
    lost(pod, what) {
      repairs.inc({ lost: what });
      logger.warn({ pod: nameOf(pod), lost: what }, 'capture of a pod was lost');
      tell(pod, 'CaptureLost', lostText[what]);
    },
    failed(pod, error, retryMs) {
      const reason = causeChain(error);
      failures.inc({});
      logger.warn(
        { pod: nameOf(pod), reason, retryMs: Math.round(retryMs) },
        'pod not as its labels want it',
      );
      // Of the node rather than of the pod, and usual for a moment.
      if (errnoCode(error) === 'agent/no-ztunnel' || told.get(pod.uid) === reason) return;
      told.set(pod.uid, reason);
      tell(
        pod,
        'CaptureFailed',
        `the mesh cannot bring this pod to where its labels want it: ${reason}`,
      );
    },
    gone(pod) {
      told.delete(pod.uid);
      onGone(pod);
    },
  };
}

export function nameOf({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
}

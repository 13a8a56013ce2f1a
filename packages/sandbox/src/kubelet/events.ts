import type { KubeEvent, KubeObject } from '../cluster/objects.ts';
import { resources, type ClusterStore } from '../cluster/store.ts';
import { describe, type ClusterLogger } from '../cluster/work-queue.ts';
import { randomSuffix } from '../cluster/labels.ts';

export interface EventRecorder {
  /** Says something about an object; the same again within ten minutes counts up the one event. */
  record(
    object: KubeObject,
    event: { type: 'Normal' | 'Warning'; reason: string; message: string; fieldPath?: string },
  ): void;
}

const sameWithinMs = 10 * 60_000;
const maxRemembered = 1_000;
const maxMessageLength = 1_024;
const countUpEveryMs = 1_000;

interface Remembered {
  readonly event: KubeEvent;
  atMs: number;
  writtenAtMs: number;
}

/** Writes Kubernetes events in the background; an event that cannot be written is dropped with a line in the log. */
export function createEventRecorder(
  store: ClusterStore,
  logger: ClusterLogger,
  component: string,
  host: string,
): EventRecorder {
  const remembered = new Map<string, Remembered>();
  let work: Promise<unknown> = Promise.resolve();

  async function write(known: Remembered, isNew: boolean): Promise<void> {
    const { namespace = 'default', name } = known.event.metadata;
    if (isNew) {
      await store.create(resources.events, known.event);
      return;
    }
    const stored = await store.get(resources.events, namespace, name);
    if (stored === undefined) return;
    const { count, lastTimestamp } = known.event;
    await store.update(resources.events, { ...stored, count, lastTimestamp });
  }

  return {
    record(object, { type, reason, message, fieldPath }) {
      const now = new Date();
      const key = [object.metadata.uid, reason, message, fieldPath].join('\n');
      let known = remembered.get(key);
      const isNew = known === undefined || now.getTime() - known.atMs > sameWithinMs;
      if (known === undefined || isNew) {
        known = { event: newEvent(), atMs: now.getTime(), writtenAtMs: now.getTime() };
        remembered.set(key, known);
        const oldest = remembered.keys().next();
        if (remembered.size > maxRemembered && oldest.done !== true)
          remembered.delete(oldest.value);
      } else {
        known.event.count += 1;
        known.event.lastTimestamp = seconds(now);
        known.atMs = now.getTime();
        if (now.getTime() - known.writtenAtMs < countUpEveryMs) return;
        known.writtenAtMs = now.getTime();
      }
      const written = known;
      work = work
        .then(() => write(written, isNew))
        .catch((error: unknown) =>
          logger.debug({ reason, error: describe(error) }, 'event was not written'),
        );

      function newEvent(): KubeEvent {
        const { namespace, name, uid } = object.metadata;
        return {
          apiVersion: 'v1',
          kind: 'Event',
          metadata: { name: `${name}.${randomSuffix(16)}`, namespace: namespace ?? 'default' },
          involvedObject: {
            apiVersion: object.apiVersion,
            kind: object.kind,
            name,
            ...(namespace === undefined ? {} : { namespace }),
            ...(uid === undefined ? {} : { uid }),
            ...(fieldPath === undefined ? {} : { fieldPath }),
          },
          type,
          reason,
          message: message.slice(0, maxMessageLength),
          count: 1,
          firstTimestamp: seconds(now),
          lastTimestamp: seconds(now),
          source: { component, host },
          reportingComponent: component,
          reportingInstance: host,
        };
      }
    },
  };
}

function seconds(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}

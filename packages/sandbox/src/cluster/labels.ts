import { createHash } from 'node:crypto';
import type {
  KubeObject,
  LabelSelector,
  Metadata,
  OwnerReference,
  Pod,
  StringMap,
} from './objects.ts';

/** Whether `labels` satisfy a selector; an absent selector selects nothing, an empty one everything. */
export function selects(
  selector: LabelSelector | undefined,
  labels: StringMap | undefined,
): boolean {
  if (selector === undefined) return false;
  if (!includesLabels(labels, selector.matchLabels ?? {})) return false;
  return (selector.matchExpressions ?? []).every(({ key, operator, values }) => {
    const value = labels?.[key];
    switch (operator) {
      case 'In':
        return value !== undefined && (values ?? []).includes(value);
      case 'NotIn':
        return value === undefined || !(values ?? []).includes(value);
      case 'Exists':
        return value !== undefined;
      case 'DoesNotExist':
        return value === undefined;
    }
  });
}

export function includesLabels(labels: StringMap | undefined, wanted: StringMap): boolean {
  return Object.entries(wanted).every(([key, value]) => labels?.[key] === value);
}

/** The one owner that controls an object. */
export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((owner) => owner.controller === true);
}

export function ownedBy(owner: KubeObject): OwnerReference {
  return {
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid ?? '',
    controller: true,
    blockOwnerDeletion: true,
  };
}

/** A short stable hash of a value, in the alphabet Kubernetes uses for generated names. */
export function shortHash(value: unknown, length = 10): string {
  const alphabet = 'bcdfghjklmnpqrstvwxz2456789';
  const digest = createHash('sha256').update(JSON.stringify(value)).digest();
  return Array.from(digest.subarray(0, length), (byte) => alphabet[byte % alphabet.length]).join(
    '',
  );
}

export function randomSuffix(length = 5): string {
  return shortHash([Math.random(), process.hrtime.bigint().toString()], length);
}

export function isTerminating(object: { readonly metadata: Metadata }): boolean {
  return object.metadata.deletionTimestamp !== undefined;
}

export function isFinished(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}

export function isReady(pod: Pod): boolean {
  return pod.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ?? false;
}

/** Ready for at least `minReadySeconds`. */
export function isAvailable(pod: Pod, minReadySeconds: number, nowMs: number): boolean {
  const ready = pod.status?.conditions?.find((c) => c.type === 'Ready' && c.status === 'True');
  if (ready === undefined) return false;
  return (
    minReadySeconds === 0 ||
    Date.parse(ready.lastTransitionTime ?? '') + minReadySeconds * 1000 <= nowMs
  );
}

/** An absolute number or a percentage of `total`. */
export function resolveCount(
  value: number | string | undefined,
  total: number,
  roundUp: boolean,
): number {
  if (typeof value === 'number') return value;
  const percent = /^(\d+)%$/.exec(value ?? '25%');
  const share = (Number(percent?.[1] ?? 25) * total) / 100;
  return roundUp ? Math.ceil(share) : Math.floor(share);
}

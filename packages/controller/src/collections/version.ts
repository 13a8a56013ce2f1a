import { createHash } from 'node:crypto';

import type { SnapshotVersion, Upsert } from '@ambit/api';

/** One value under one key, or nothing. */
export function only<V>(key: string, value: V | undefined): ReadonlyMap<string, V> {
  return value === undefined ? new Map<string, V>() : new Map([[key, value]]);
}

export function sameVersion(left: Upsert, right: Upsert): boolean {
  return left.version === right.version;
}

/** 128 bits of the content's hash; resources are built with their fields in one order. */
export function versionOf(resource: object): SnapshotVersion {
  const digest = createHash('sha256').update(JSON.stringify(resource)).digest();
  return digest.subarray(0, 16).toString('base64url') as SnapshotVersion;
}

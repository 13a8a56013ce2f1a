import { clone, isObject, put, remove } from './json.ts';
import type { JsonObject } from './types.ts';

/** Applies an RFC 7396 merge patch: `null` removes, objects merge, everything else replaces. `doc` stays as it was. */
export function applyMergePatch(doc: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return clone(patch);
  const target: JsonObject = isObject(doc) ? clone(doc) : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) remove(target, key);
    else
      put(
        target,
        key,
        applyMergePatch(Object.hasOwn(target, key) ? target[key] : undefined, value),
      );
  }
  return target;
}

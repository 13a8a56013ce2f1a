import type { Result } from '@ambit/api';

import type { Decode } from '../src/kube/cache.ts';
import { decodeMetadata } from '../src/kube/decode/fields.ts';

/** Decodes an object as the cache does; throws what is wrong with it. */
export function decoded<R>(decode: Decode<R>, object: unknown): R {
  const meta = decodeMetadata(object);
  if (meta === undefined) throw new TypeError('the object has no name');
  return value(decode(object, meta));
}

export function value<T>(result: Result<T, unknown>): T {
  if (!result.ok) throw new TypeError(JSON.stringify(result.error));
  return result.value;
}

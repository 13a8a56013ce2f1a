import { ok } from '@ambit/api';

import type { Decode } from '../cache.ts';
import type { Metadata } from './fields.ts';

export interface NamespaceRecord {
  readonly meta: Metadata;
}

export const decodeNamespace: Decode<NamespaceRecord> = (_object, meta) => ok({ meta });

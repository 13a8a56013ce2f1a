import { ok } from '@ambit/api';

import type { Decode } from '../cache.ts';
import type { Metadata } from './fields.ts';

/** A Service that may be a control plane's; more than its metadata is not asked for. */
export interface ControlPlaneRecord {
  readonly meta: Metadata;
}

export const decodeControlPlane: Decode<ControlPlaneRecord> = (_object, meta) => ok({ meta });

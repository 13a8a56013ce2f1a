import type { Locality } from '@ambit/api';
import { ok } from '@ambit/api';

import type { Decode } from '../cache.ts';

export interface NodeRecord {
  readonly name: string;
  readonly locality: Locality;
}

/** Of a node only its place matters; its status, which changes every few seconds, does not. */
export const decodeNode: Decode<NodeRecord> = (_object, meta) =>
  ok({
    name: meta.name,
    locality: {
      region: meta.labels.get('topology.kubernetes.io/region') ?? '',
      zone: meta.labels.get('topology.kubernetes.io/zone') ?? '',
      subzone: meta.labels.get('topology.istio.io/subzone') ?? '',
    },
  });

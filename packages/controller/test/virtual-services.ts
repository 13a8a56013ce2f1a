import type { Port } from '@ambit/api';

import type { VirtualServiceRecord } from '../src/kube/decode/configuration.ts';
import { decodeVirtualService } from '../src/kube/decode/configuration.ts';
import { regexProblem } from '../src/translate/regex.ts';
import type {
  CompiledVirtualService,
  VirtualServiceWorld,
} from '../src/translate/virtual-service.ts';
import { compileVirtualService } from '../src/translate/virtual-service.ts';
import { decoded } from './records.ts';

export function virtualServiceOf(spec: object, name = 'vs'): VirtualServiceRecord {
  return decoded(decodeVirtualService, { metadata: { name, namespace: 'shop' }, spec });
}

const ports: Readonly<Record<string, readonly number[]>> = {
  'shop/reviews': [8080],
  'shop/cart': [8080, 9090],
  'other/far': [80],
};

export const smallWorld: VirtualServiceWorld = {
  clusterDomain: 'cluster.local',
  rootNamespace: 'istio-system',
  ports: ({ namespace, name }) => ports[`${namespace}/${name}`] as readonly Port[] | undefined,
  hasSubset: (_service, name) => name === 'v1',
  delegate: () => undefined,
  regexProblem,
  insteadOf: () => undefined,
};

export function compileSpec(
  spec: object,
  world: Partial<VirtualServiceWorld> = {},
): CompiledVirtualService {
  return compileVirtualService(virtualServiceOf(spec), { ...smallWorld, ...world });
}

export function destination(host: string, more: object = {}): object {
  return { destination: { host, ...more } };
}

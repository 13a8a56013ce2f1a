import type { Static } from 'typebox';
import { Type } from 'typebox';

import type { ResourceDefinition } from './crd.ts';
import { many, part, text, textMap, texts, whole } from './shape.ts';

/** An endpoint: `spec` of a WorkloadEntry, and an item of a ServiceEntry's `endpoints`. */
const endpointFields = {
  address: Type.Optional(
    Type.String({ description: 'IP address or, with resolution DNS, a name.', maxLength: 256 }),
  ),
  ports: Type.Optional(
    Type.Record(Type.String(), Type.Integer(), {
      description: 'Ports of the endpoint by the names of the service ports.',
    }),
  ),
  labels: textMap,
  network: text,
  locality: text,
  weight: Type.Optional(
    Type.Integer({
      description: 'Its share beside those of the other endpoints; 1 by default.',
      minimum: 0,
      maximum: 0xffff_ffff,
    }),
  ),
  serviceAccount: text,
};

/** `spec` of networking.istio.io WorkloadEntry, as its public API reference has it. */
export const workloadEntrySpec = Type.Object(endpointFields, {
  additionalProperties: false,
  description: 'A workload that is no pod.',
});
export type WorkloadEntrySpec = Static<typeof workloadEntrySpec>;

export const workloadEntryResource: ResourceDefinition = {
  group: 'networking.istio.io',
  kind: 'WorkloadEntry',
  plural: 'workloadentries',
  singular: 'workloadentry',
  shortNames: ['we'],
  categories: ['istio-io', 'networking-istio-io'],
  versions: ['v1', 'v1beta1', 'v1alpha3'],
  spec: workloadEntrySpec,
  rules: [
    {
      rule: 'has(self.address) || has(self.network)',
      message:
        'address is required, except for a workload that is reached through the gateway of its network',
    },
  ],
  columns: [
    {
      name: 'Address',
      type: 'string',
      jsonPath: '.spec.address',
      description: 'Where it is reached.',
    },
  ],
};

/** `spec` of networking.istio.io ServiceEntry, as its public API reference has it. */
export const serviceEntrySpec = Type.Object(
  {
    hosts: texts,
    addresses: texts,
    ports: many(part({ number: whole, protocol: text, name: text, targetPort: whole }), 256),
    location: Type.Optional(Type.Enum(['MESH_EXTERNAL', 'MESH_INTERNAL'])),
    resolution: Type.Optional(
      Type.Enum(['NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS']),
    ),
    endpoints: many(part(endpointFields), 1000),
    workloadSelector: Type.Optional(part({ labels: textMap })),
    exportTo: texts,
    subjectAltNames: texts,
  },
  { additionalProperties: false, description: 'A service that the cluster does not know of.' },
);
export type ServiceEntrySpec = Static<typeof serviceEntrySpec>;

export const serviceEntryResource: ResourceDefinition = {
  group: 'networking.istio.io',
  kind: 'ServiceEntry',
  plural: 'serviceentries',
  singular: 'serviceentry',
  shortNames: ['se'],
  categories: ['istio-io', 'networking-istio-io'],
  versions: ['v1', 'v1beta1', 'v1alpha3'],
  spec: serviceEntrySpec,
  rules: [
    {
      rule: '!(has(self.workloadSelector) && has(self.endpoints))',
      message: 'only one of workloadSelector and endpoints may be set; remove the other',
    },
  ],
  columns: [
    { name: 'Hosts', type: 'string', jsonPath: '.spec.hosts', description: 'Its names.' },
    {
      name: 'Location',
      type: 'string',
      jsonPath: '.spec.location',
      description: 'Inside or outside the mesh.',
    },
    {
      name: 'Resolution',
      type: 'string',
      jsonPath: '.spec.resolution',
      description: 'How its endpoints are found.',
    },
  ],
};

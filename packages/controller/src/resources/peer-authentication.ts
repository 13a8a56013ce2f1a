import type { Static } from 'typebox';
import { Type } from 'typebox';

import type { ResourceDefinition } from './crd.ts';
import { workloadSelector } from './selector.ts';

const mutualTls = Type.Object(
  {
    mode: Type.Optional(
      Type.Enum(['UNSET', 'DISABLE', 'PERMISSIVE', 'STRICT'], {
        description: 'What is demanded of a connection; UNSET takes the mode of the wider scope.',
      }),
    ),
  },
  { additionalProperties: false },
);

/** `spec` of security.istio.io PeerAuthentication, as its public API reference has it. */
export const peerAuthenticationSpec = Type.Object(
  {
    selector: Type.Optional(workloadSelector),
    mtls: Type.Optional(mutualTls),
    portLevelMtls: Type.Optional(
      Type.Record(Type.String(), mutualTls, {
        description: 'Modes of single workload ports; only together with a selector.',
      }),
    ),
  },
  {
    additionalProperties: false,
    description: 'Whether workloads take connections that are not mutual TLS.',
  },
);
export type PeerAuthenticationSpec = Static<typeof peerAuthenticationSpec>;

export const peerAuthenticationResource: ResourceDefinition = {
  group: 'security.istio.io',
  kind: 'PeerAuthentication',
  plural: 'peerauthentications',
  singular: 'peerauthentication',
  shortNames: ['pa'],
  categories: ['istio-io', 'security-istio-io'],
  versions: ['v1', 'v1beta1'],
  spec: peerAuthenticationSpec,
  rules: [
    {
      rule: '!has(self.portLevelMtls) || (has(self.selector) && has(self.selector.matchLabels) && self.selector.matchLabels.size() > 0)',
      message: 'portLevelMtls needs a selector with matchLabels; without one it has no effect',
    },
  ],
  columns: [
    {
      name: 'Mode',
      type: 'string',
      jsonPath: '.spec.mtls.mode',
      description: 'Mode of all ports.',
    },
  ],
};

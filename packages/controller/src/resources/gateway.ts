import type { Static } from 'typebox';
import { Type } from 'typebox';

import type { ResourceDefinition } from './crd.ts';
import { many, part, text, textMap, texts, whole } from './shape.ts';

const group = 'gateway.networking.k8s.io';
const labelSelector = part({
  matchLabels: textMap,
  matchExpressions: many(part({ key: text, operator: text, values: texts })),
});
const anything = Type.Optional(Type.Unknown());

const listener = part({
  name: text,
  hostname: text,
  port: whole,
  protocol: text,
  tls: anything,
  allowedRoutes: Type.Optional(
    part({
      namespaces: Type.Optional(part({ from: text, selector: Type.Optional(labelSelector) })),
      kinds: many(part({ group: text, kind: text })),
    }),
  ),
});

/** `spec` of gateway.networking.k8s.io Gateway, as the public Gateway API reference has it. */
export const gatewaySpec = Type.Object(
  {
    gatewayClassName: text,
    listeners: many(listener, 64),
    addresses: many(part({ type: text, value: text }), 16),
    infrastructure: Type.Optional(
      part({
        labels: textMap,
        annotations: textMap,
        parametersRef: Type.Optional(part({ group: text, kind: text, name: text })),
      }),
    ),
    allowedListeners: anything,
    tls: anything,
    backendTLS: anything,
    defaultScope: text,
  },
  { additionalProperties: false, description: 'A proxy that takes traffic.' },
);
export type GatewaySpec = Static<typeof gatewaySpec>;
export type LabelSelectorSpec = Static<typeof labelSelector>;

export const gatewayResource: ResourceDefinition = {
  group,
  kind: 'Gateway',
  plural: 'gateways',
  singular: 'gateway',
  shortNames: ['gtw'],
  categories: ['gateway-api'],
  versions: ['v1', 'v1beta1'],
  spec: gatewaySpec,
  refused: new Map([
    ['addresses', 'a waypoint is reached by its Service; remove it'],
    ['allowedListeners', 'is not there yet; remove it'],
    ['tls', 'a waypoint has the certificates of the mesh; remove it'],
    ['backendTLS', 'a waypoint has the certificates of the mesh; use a DestinationRule'],
    ['defaultScope', 'is not there yet; remove it'],
    ['listeners[].hostname', 'a waypoint serves whatever is bound to it; remove it'],
    ['listeners[].tls', 'a waypoint has the certificates of the mesh; remove it'],
  ]),
  columns: [
    {
      name: 'Class',
      type: 'string',
      jsonPath: '.spec.gatewayClassName',
      description: 'What serves it.',
    },
    {
      name: 'Address',
      type: 'string',
      jsonPath: '.status.addresses[*].value',
      description: 'Where it is reached.',
    },
    {
      name: 'Programmed',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Programmed")].status',
      description: 'Whether it serves.',
    },
  ],
};

/** `spec` of GatewayClass. */
export const gatewayClassSpec = Type.Object(
  {
    controllerName: text,
    description: text,
    parametersRef: Type.Optional(part({ group: text, kind: text, name: text, namespace: text })),
  },
  { additionalProperties: false, description: 'A kind of Gateways and who serves them.' },
);
export type GatewayClassSpec = Static<typeof gatewayClassSpec>;

export const gatewayClassResource: ResourceDefinition = {
  group,
  scope: 'Cluster',
  kind: 'GatewayClass',
  plural: 'gatewayclasses',
  singular: 'gatewayclass',
  shortNames: ['gc'],
  categories: ['gateway-api'],
  versions: ['v1', 'v1beta1'],
  spec: gatewayClassSpec,
  columns: [
    {
      name: 'Controller',
      type: 'string',
      jsonPath: '.spec.controllerName',
      description: 'Who serves it.',
    },
    {
      name: 'Accepted',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Accepted")].status',
      description: 'Whether somebody does.',
    },
  ],
};

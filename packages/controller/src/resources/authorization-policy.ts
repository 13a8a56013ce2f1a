import type { Static } from 'typebox';
import { Type } from 'typebox';

import type { ResourceDefinition } from './crd.ts';
import { oneTarget } from './crd.ts';
import { workloadSelector } from './selector.ts';

const names = (description: string) => Type.Optional(Type.Array(Type.String(), { description }));

const source = Type.Object(
  {
    principals: names('Peer identities: TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT.'),
    notPrincipals: names('Peer identities that do not match.'),
    requestPrincipals: names('ISSUER/SUBJECT of the request token.'),
    notRequestPrincipals: names('Token principals that do not match.'),
    namespaces: names('Namespaces of the peer.'),
    notNamespaces: names('Namespaces of the peer that do not match.'),
    serviceAccounts: names('NAMESPACE/NAME or NAME in the namespace of the policy.'),
    notServiceAccounts: names('Service accounts that do not match.'),
    ipBlocks: names('Addresses or ranges of the peer.'),
    notIpBlocks: names('Addresses or ranges that do not match.'),
    remoteIpBlocks: names('Addresses or ranges of the original client.'),
    notRemoteIpBlocks: names('Addresses or ranges of the original client that do not match.'),
  },
  { additionalProperties: false },
);

const operation = Type.Object(
  {
    hosts: names('HTTP hosts.'),
    notHosts: names('HTTP hosts that do not match.'),
    ports: names('Ports of the workload, as strings.'),
    notPorts: names('Ports that do not match.'),
    methods: names('HTTP methods.'),
    notMethods: names('HTTP methods that do not match.'),
    paths: names('HTTP paths.'),
    notPaths: names('HTTP paths that do not match.'),
  },
  { additionalProperties: false },
);

const condition = Type.Object(
  {
    key: Type.String({ description: 'Name of an attribute, for example source.ip.' }),
    values: names('Values of which one must match.'),
    notValues: names('Values of which none may match.'),
  },
  { additionalProperties: false },
);

const rule = Type.Object(
  {
    from: Type.Optional(
      Type.Array(Type.Object({ source: Type.Optional(source) }, { additionalProperties: false }), {
        description: 'Sources of which one must match.',
      }),
    ),
    to: Type.Optional(
      Type.Array(
        Type.Object({ operation: Type.Optional(operation) }, { additionalProperties: false }),
        { description: 'Operations of which one must match.' },
      ),
    ),
    when: Type.Optional(Type.Array(condition, { description: 'Conditions that must all hold.' })),
  },
  { additionalProperties: false },
);

const targetRef = Type.Object(
  {
    group: Type.Optional(Type.String()),
    kind: Type.Optional(Type.String()),
    name: Type.Optional(Type.String()),
    namespace: Type.Optional(Type.String()),
  },
  { additionalProperties: false },
);

/** `spec` of security.istio.io AuthorizationPolicy, as its public API reference has it. */
export const authorizationPolicySpec = Type.Object(
  {
    selector: Type.Optional(workloadSelector),
    targetRef: Type.Optional(targetRef),
    targetRefs: Type.Optional(Type.Array(targetRef, { maxItems: 16 })),
    rules: Type.Optional(
      Type.Array(rule, {
        maxItems: 512,
        description: 'The policy matches when one of them does; none never matches.',
      }),
    ),
    action: Type.Optional(
      Type.Enum(['ALLOW', 'DENY', 'AUDIT', 'CUSTOM'], {
        description: 'What a match leads to; ALLOW when absent.',
      }),
    ),
    provider: Type.Optional(
      Type.Object({ name: Type.Optional(Type.String()) }, { additionalProperties: false }),
    ),
  },
  { additionalProperties: false, description: 'Who may connect to, or ask what of, a workload.' },
);
export type AuthorizationPolicySpec = Static<typeof authorizationPolicySpec>;
export type SourceSpec = Static<typeof source>;
export type OperationSpec = Static<typeof operation>;
export type ConditionSpec = Static<typeof condition>;
export type RuleSpec = Static<typeof rule>;

export const authorizationPolicyResource: ResourceDefinition = {
  group: 'security.istio.io',
  kind: 'AuthorizationPolicy',
  plural: 'authorizationpolicies',
  singular: 'authorizationpolicy',
  shortNames: ['ap'],
  categories: ['istio-io', 'security-istio-io'],
  versions: ['v1', 'v1beta1'],
  spec: authorizationPolicySpec,
  rules: [oneTarget],
  columns: [
    {
      name: 'Action',
      type: 'string',
      jsonPath: '.spec.action',
      description: 'What a match leads to.',
    },
  ],
};

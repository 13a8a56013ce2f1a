import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';

import type { AuthorizationPolicySpec } from '../../resources/authorization-policy.ts';
import { authorizationPolicyResource } from '../../resources/authorization-policy.ts';
import type { ResourceDefinition } from '../../resources/crd.ts';
import { schemaProblems } from '../../resources/crd.ts';
import type { PeerAuthenticationSpec } from '../../resources/peer-authentication.ts';
import { peerAuthenticationResource } from '../../resources/peer-authentication.ts';
import type { Decode } from '../cache.ts';
import type { Metadata, Problem } from './fields.ts';
import { field, objectKey } from './fields.ts';

/**
 * A security resource. One whose spec breaks the schema is kept, with what could be read of it untyped, because
 * dropping it would open what it was meant to close: the translation compiles it closed.
 */
export interface SecurityRecord<S> {
  readonly meta: Metadata;
  readonly spec: Result<S, { readonly problems: readonly Problem[]; readonly raw: unknown }>;
  /** `status.conditions` as they stand, to be kept where they are not ours. */
  readonly conditions: unknown;
}

export type PolicyRecord = SecurityRecord<AuthorizationPolicySpec>;
export type PeerAuthenticationRecord = SecurityRecord<PeerAuthenticationSpec>;

export const decodeAuthorizationPolicy: Decode<PolicyRecord> = securityDecoder(
  authorizationPolicyResource,
);
export const decodePeerAuthentication: Decode<PeerAuthenticationRecord> = securityDecoder(
  peerAuthenticationResource,
);

function securityDecoder<S>(resource: ResourceDefinition): Decode<SecurityRecord<S>> {
  return (object, meta) => {
    const raw = field(object, 'spec');
    const object_ = `${resource.kind} ${objectKey(meta)}`;
    const problems = schemaProblems(resource, raw).map((one) => ({ object: object_, ...one }));
    return ok({
      meta,
      // The schema was just checked; this is the edge where the type is given.
      spec: problems.length === 0 ? ok((raw ?? {}) as S) : err({ problems, raw }),
      conditions: field(object, 'status', 'conditions'),
    });
  };
}

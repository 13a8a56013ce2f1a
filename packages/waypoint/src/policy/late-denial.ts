import type { Denial } from '@ambit/core';

/** Why what was let in may not go on; a token is invalid by a RequestAuthentication. */
export interface LateDenial extends Omit<Denial, 'reason'> {
  readonly reason: Denial['reason'] | 'invalid-token';
}

import type {
  AuthorizationPolicy,
  ExtensionProvider,
  JwtRule,
  RequestAuthentication,
} from '@ambit/api';
import { fold } from '../http/vouched.ts';
import { isAuthorizers } from './authorizer/fields.ts';

/** Fields by which the waypoint says to the application what tokens and authorizers say of a request. */
export interface Spoken {
  /** Whether an application may read a field as one of them: many take `_` for `-`. */
  readonly isMeant: (name: string) => boolean;
  /** Whether it may, although the field has not the very name. */
  readonly isTwin: (name: string) => boolean;
}

/** What rules and providers say of fields; undefined where they say nothing. */
export function spokenBy(
  authentications: readonly (RequestAuthentication | 'undecodable')[],
  custom: readonly AuthorizationPolicy[],
  providers: readonly ExtensionProvider[],
): Spoken | undefined {
  const names = new Set(
    authentications.flatMap((one) => (one === 'undecodable' ? [] : one.rules.flatMap(outputsOf))),
  );
  const patterns = providers
    .filter(({ name }) => custom.some(({ provider }) => provider === name))
    .flatMap((one) => (one.kind === 'ext-authz-http' ? [one.headersToUpstreamOnAllow] : []));
  if (names.size + patterns.length === 0) return undefined;
  const folded = new Set([...names].map(fold));
  const foldedPatterns = patterns.map((some) => some.map(fold));
  const isOne = (name: string): boolean =>
    names.has(name) || patterns.some((some) => isAuthorizers(some, name));
  const isMeant = (name: string): boolean => {
    const one = fold(name);
    return folded.has(one) || foldedPatterns.some((some) => isAuthorizers(some, one));
  };
  return { isMeant, isTwin: (name) => isMeant(name) && !isOne(name) };
}

/** The fields in which a rule says what a token says. */
export function outputsOf({
  outputPayloadToHeader,
  outputClaimsToHeaders,
}: JwtRule): readonly string[] {
  return [
    ...(outputPayloadToHeader === undefined ? [] : [outputPayloadToHeader]),
    ...outputClaimsToHeaders.map(({ header }) => header),
  ];
}

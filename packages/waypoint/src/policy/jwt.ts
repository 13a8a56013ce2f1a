import type { JwtRule, Result, TokenLocation } from '@ambit/api';
import { err, ok } from '@ambit/api';
import type { VerifiedToken } from '@ambit/core';
import type { JWK, JWTPayload } from 'jose';
import { decodeProtectedHeader, importJWK, jwtVerify } from 'jose';
import type { RequestHead } from '../http/message.ts';
import type { JwksSource } from './jwks.ts';

/** A token that a rule found good, and everywhere it stood. */
export interface GoodToken {
  readonly rule: JwtRule;
  readonly token: VerifiedToken;
  readonly locations: readonly TokenLocation[];
  /** As the issuer wrote them. */
  readonly claims: JWTPayload;
  /** The middle part of the token as it came. */
  readonly payload: string;
}

const maxTokenChars = 16 * 1024;
const compactForm = /^[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+$/;
const skewSeconds = 60;
const algorithms: ReadonlyMap<string, readonly string[]> = new Map([
  ['RSA', ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']],
  ['EC', ['ES256', 'ES384', 'ES512']],
  ['OKP', ['EdDSA', 'Ed25519']],
]);
const defaultLocations: readonly TokenLocation[] = [
  { kind: 'header', name: 'authorization', prefix: 'Bearer ' },
  { kind: 'query', name: 'access_token' },
];

/** Verifies the tokens of a request by the rules; no token at all is neither good nor bad. */
export async function verifyTokens(
  rules: readonly JwtRule[],
  request: RequestHead,
  jwks: JwksSource,
  nowMs: number,
): Promise<Result<readonly GoodToken[], string>> {
  const found = new Map<
    string,
    { readonly locations: TokenLocation[]; readonly rules: JwtRule[] }
  >();
  for (const rule of rules) {
    for (const location of rule.from.length === 0 ? defaultLocations : rule.from) {
      const values = tokensAt(location, request);
      if (values.length > 1) return err('more than one token in one place');
      const [value] = values;
      if (value === undefined) continue;
      const known = found.get(value);
      if (known === undefined) found.set(value, { locations: [location], rules: [rule] });
      else {
        known.locations.push(location);
        known.rules.push(rule);
      }
    }
  }
  const good: GoodToken[] = [];
  for (const [text, { locations, rules: candidates }] of found) {
    const verified = await verifyToken(text, candidates, jwks, nowMs);
    if (!verified.ok) return verified;
    good.push({ ...verified.value, locations });
  }
  return ok(good);
}

function tokensAt(location: TokenLocation, { headers, path }: RequestHead): readonly string[] {
  switch (location.kind) {
    case 'header':
      return headers
        .all(location.name)
        .filter((value) => value.startsWith(location.prefix))
        .map((value) => value.slice(location.prefix.length).trim());
    case 'query': {
      const at = path.indexOf('?');
      return at < 0 ? [] : new URLSearchParams(path.slice(at + 1)).getAll(location.name);
    }
    case 'cookie':
      return headers
        .all('cookie')
        .flatMap((line) => line.split(';'))
        .map((pair) => pair.trim())
        .filter((pair) => pair.startsWith(`${location.name}=`))
        .map((pair) => pair.slice(location.name.length + 1));
  }
}

async function verifyToken(
  text: string,
  rules: readonly JwtRule[],
  jwks: JwksSource,
  nowMs: number,
): Promise<Result<Omit<GoodToken, 'locations'>, string>> {
  if (text.length > maxTokenChars) return err('Jwt is too long');
  const payload = compactForm.exec(text)?.[1];
  if (payload === undefined) return err('Jwt is not in the form of Header.Payload.Signature');
  const issuer = issuerOf(payload);
  if (issuer === undefined) return err('Jwt is no JSON with an issuer');
  const named = rules.filter((one) => one.issuer === issuer);
  const candidates = named.length > 0 ? named : rules.filter((one) => one.issuer === '');
  // Where several speak of an issuer, a token is good that is good by one of them.
  let refused: string | undefined;
  for (const rule of candidates) {
    const claims = await claimsBy(text, rule, jwks, nowMs);
    if (claims.ok) return ok(goodToken(issuer, payload, rule, claims.value));
    refused ??= claims.error;
  }
  return err(refused ?? 'Jwt issuer is not configured');
}

function goodToken(
  issuer: string,
  payload: string,
  rule: JwtRule,
  claims: JWTPayload,
): Omit<GoodToken, 'locations'> {
  const { aud, azp, sub } = claims;
  const audiences = typeof aud === 'string' ? [aud] : Array.isArray(aud) ? aud.map(String) : [];
  return {
    rule,
    payload,
    claims,
    token: {
      principal: `${issuer}/${typeof sub === 'string' ? sub : ''}`,
      audiences,
      presenter: typeof azp === 'string' ? azp : undefined,
      claims: inWords(claims, rule.spaceDelimitedClaims),
    },
  };
}

/** Claims such as `scope` are one text of several words; policies ask for one of them. */
function inWords(claims: JWTPayload, delimited: readonly string[]): JWTPayload {
  const words = delimited.flatMap((name) => {
    const value = Object.hasOwn(claims, name) ? claims[name] : undefined;
    return typeof value === 'string' ? [[name, value.split(' ').filter((one) => one !== '')]] : [];
  });
  if (words.length === 0) return claims;
  return { ...claims, ...(Object.fromEntries(words) as Record<string, string[]>) };
}

async function claimsBy(
  text: string,
  rule: JwtRule,
  jwks: JwksSource,
  nowMs: number,
): Promise<Result<JWTPayload, string>> {
  const keys = await jwks.keys(rule);
  if (!keys.ok) return err(`Jwks cannot be had: ${keys.error}`);
  const claims = await signedClaims(text, keys.value, rule, nowMs);
  if (claims.ok || claims.error !== noKey) return claims;
  // The issuer may sign with a new key already.
  const renewed = await jwks.renewed(rule);
  return renewed === undefined ? claims : signedClaims(text, renewed, rule, nowMs);
}

const noKey = 'Jwks does not have a key to match';

/** Read before anything is verified, and only to find the rule: what it claims is proved by that rule's keys. */
function issuerOf(payload: string): string | undefined {
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString());
    const issuer =
      typeof claims === 'object' && claims !== null ? (claims as { iss?: unknown }).iss : undefined;
    return typeof issuer === 'string' ? issuer : undefined;
  } catch {
    return undefined;
  }
}

async function signedClaims(
  text: string,
  keys: readonly JWK[],
  rule: JwtRule,
  nowMs: number,
): Promise<Result<JWTPayload, string>> {
  let header: ReturnType<typeof decodeProtectedHeader>;
  try {
    header = decodeProtectedHeader(text);
  } catch {
    return err('Jwt header is malformed');
  }
  const { alg = '', kid } = header;
  const candidates = keys.filter(
    (key) =>
      (algorithms.get(key.kty ?? '') ?? []).includes(alg) &&
      (key.alg === undefined || key.alg === alg) &&
      (key.use === undefined || key.use === 'sig') &&
      (kid === undefined || key.kid === undefined || key.kid === kid),
  );
  let last = noKey;
  for (const key of candidates) {
    try {
      const { payload } = await jwtVerify(text, await imported(key, alg), {
        algorithms: [alg],
        ...(rule.issuer === '' ? {} : { issuer: rule.issuer }),
        clockTolerance: skewSeconds,
        currentDate: new Date(nowMs),
        ...(rule.audiences.length === 0 ? {} : { audience: [...rule.audiences] }),
      });
      return ok(payload);
    } catch (error) {
      last = explain(error);
    }
  }
  return err(last);
}

const importedKeys = new WeakMap<JWK, Map<string, ReturnType<typeof importJWK>>>();

/** A key is made ready once for each algorithm, not for each token. */
function imported(key: JWK, alg: string): ReturnType<typeof importJWK> {
  let known = importedKeys.get(key);
  if (known === undefined) {
    known = new Map();
    importedKeys.set(key, known);
  }
  let made = known.get(alg);
  if (made === undefined) {
    made = importJWK(key, alg);
    known.set(alg, made);
  }
  return made;
}

function explain(error: unknown): string {
  const code =
    typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
  const claim =
    typeof error === 'object' && error !== null && 'claim' in error ? String(error.claim) : '';
  if (code === 'ERR_JWT_EXPIRED') return 'Jwt is expired';
  if (code === 'ERR_JWT_CLAIM_VALIDATION_FAILED') {
    return claim === 'aud'
      ? 'Audiences in Jwt are not allowed'
      : `Jwt claim ${claim} is not as it must be`;
  }
  return 'Jwt verification fails';
}

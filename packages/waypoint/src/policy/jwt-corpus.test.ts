import type { KeyObject } from 'node:crypto';
import { createHmac, generateKeyPairSync, sign as signWith } from 'node:crypto';
import { afterAll, describe, expect, test } from '@jest/globals';
import type { JwtRule } from '@ambit/api';
import { HeaderList } from '../http/headers.ts';
import { createJwksSource } from './jwks.ts';
import { verifyTokens } from './jwt.ts';

/** Tokens made by hand, so that no library keeps us from making them wrong. */
const issuer = 'https://issuer.test';
const now = 1_800_000_000;
const jwks = createJwksSource();
afterAll(() => jwks.close());

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const encrypting = generateKeyPairSync('rsa', { modulusLength: 2048 });
const small = generateKeyPairSync('rsa', { modulusLength: 1024 });
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
const ed = generateKeyPairSync('ed25519');
const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 });

const jwkOf = (key: KeyObject, more: object) => ({ ...key.export({ format: 'jwk' }), ...more });
const keys = [
  jwkOf(rsa.publicKey, { kid: 'rsa', alg: 'RS256' }),
  jwkOf(encrypting.publicKey, { kid: 'enc', use: 'enc' }),
  jwkOf(small.publicKey, { kid: 'small' }),
  jwkOf(p256.publicKey, { kid: 'p256' }),
  jwkOf(p384.publicKey, { kid: 'p384' }),
  jwkOf(ed.publicKey, { kid: 'ed' }),
];
const rule: JwtRule = {
  issuer,
  audiences: [],
  keys: { kind: 'inline', jwks: JSON.stringify({ keys }) },
  from: [],
  forwardOriginalToken: false,
  spaceDelimitedClaims: ['scope'],
  outputClaimsToHeaders: [],
};

const b64 = (value: string | Buffer): string => Buffer.from(value).toString('base64url');
const good = { iss: issuer, sub: 'me', exp: now + 600 };

/** `header` and `payload` may be texts, to be wrong as JSON. */
function token(
  header: object | string,
  payload: object | string = good,
  sign: (text: string) => Buffer = rs256(),
): string {
  const text = [header, payload]
    .map((one) => b64(typeof one === 'string' ? one : JSON.stringify(one)))
    .join('.');
  return `${text}.${b64(sign(text))}`;
}

function rs256(key: KeyObject = rsa.privateKey) {
  return (text: string) => signWith('sha256', Buffer.from(text), key);
}
function es(hash: string, key: KeyObject, dsaEncoding: 'ieee-p1363' | 'der' = 'ieee-p1363') {
  return (text: string) => signWith(hash, Buffer.from(text), { key, dsaEncoding });
}
const hmac = (secret: string | Buffer) => (text: string) =>
  createHmac('sha256', secret).update(text).digest();

async function judged(value: string): Promise<string> {
  const outcome = await verifyTokens(
    [rule],
    {
      method: 'GET',
      scheme: 'http',
      authority: 'x',
      path: '/',
      headers: HeaderList.of([['authorization', `Bearer ${value}`]]),
      protocol: 'HTTP/1.1',
      upgrade: undefined,
      expectContinue: false,
    },
    jwks,
    now * 1000,
  );
  return outcome.ok ? `good ${outcome.value[0]?.token.principal ?? ''}` : outcome.error;
}

const rs = { alg: 'RS256', kid: 'rsa' };

test.each<readonly [string, string]>([
  ['RS256', token(rs)],
  ['without a key id', token({ alg: 'RS256' })],
  ['ES256', token({ alg: 'ES256', kid: 'p256' }, good, es('sha256', p256.privateKey))],
  ['ES384', token({ alg: 'ES384', kid: 'p384' }, good, es('sha384', p384.privateKey))],
  [
    'EdDSA',
    token({ alg: 'EdDSA', kid: 'ed' }, good, (text) =>
      signWith(null, Buffer.from(text), ed.privateKey),
    ),
  ],
  ['without an end, which Istio takes too', token(rs, { iss: issuer, sub: 'me' })],
])('good: %s', async (_name, value) => {
  expect(await judged(value)).toBe(`good ${issuer}/me`);
});

const [head = '', body = '', signature = ''] = token(rs).split('.');
const flipped = Buffer.from(signature, 'base64url');
flipped[0] = (flipped[0] ?? 0) ^ 1;
const publicPem = rsa.publicKey.export({ type: 'spki', format: 'pem' });
const publicDer = rsa.publicKey.export({ type: 'spki', format: 'der' });
const modulus = Buffer.from(String(rsa.publicKey.export({ format: 'jwk' }).n), 'base64url');

describe('hostile', () => {
  test.each<readonly [string, string]>([
    ['alg NONE in capitals, unsigned', `${b64('{"alg":"NONE"}')}.${body}.`],
    ['alg none with a signature', token({ alg: 'none' })],
    ['alg empty', token({ alg: '' })],
    ['alg null', token({ alg: null })],
    ['alg a list', token({ alg: ['RS256'] })],
    ['alg in small letters', token({ alg: 'rs256', kid: 'rsa' })],
    ['alg with a space', token({ alg: ' RS256', kid: 'rsa' })],
    ['HS256 with the PEM as secret', token({ alg: 'HS256', kid: 'rsa' }, good, hmac(publicPem))],
    ['HS256 with the DER as secret', token({ alg: 'HS256', kid: 'rsa' }, good, hmac(publicDer))],
    ['HS256 with the modulus as secret', token({ alg: 'HS256', kid: 'rsa' }, good, hmac(modulus))],
    ['HS256 with an empty secret', token({ alg: 'HS256' }, good, hmac(''))],
    ['PS256 where the key is for RS256', token({ alg: 'PS256', kid: 'rsa' })],
    ['RS512 where the key is for RS256', token({ alg: 'RS512', kid: 'rsa' }, good, (text) => signWith('sha512', Buffer.from(text), rsa.privateKey))],
    ['a key that is for encrypting', token({ alg: 'RS256', kid: 'enc' }, good, rs256(encrypting.privateKey))],
    ['an RSA key of 1024 bits', token({ alg: 'RS256', kid: 'small' }, good, rs256(small.privateKey))],
    ['ES384 with a P-256 key', token({ alg: 'ES384', kid: 'p256' }, good, es('sha384', p256.privateKey))],
    ['ES256 with a P-384 key', token({ alg: 'ES256', kid: 'p384' }, good, es('sha256', p384.privateKey))],
    ['ES256 with the key id of another key', token({ alg: 'ES256', kid: 'ed' }, good, es('sha256', p256.privateKey))],
    ['an ECDSA signature in DER', token({ alg: 'ES256', kid: 'p256' }, good, es('sha256', p256.privateKey, 'der'))],
    ['r and s of the order of the curve', token({ alg: 'ES256', kid: 'p256' }, good, () => Buffer.alloc(64, 0xff))],
    ['EdDSA by RSA', token({ alg: 'EdDSA', kid: 'ed' })],
    ['kid a number', token({ alg: 'RS256', kid: 1 }, good, rs256(stranger.privateKey))],
    ['kid an object', token({ alg: 'RS256', kid: {} }, good, rs256(stranger.privateKey))],
    ['kid with SQL', token({ alg: 'RS256', kid: "x' UNION SELECT 'k" }, good, hmac('k'))],
    ['kid __proto__', token({ alg: 'RS256', kid: '__proto__' }, good, rs256(stranger.privateKey))],
    ['kid of a device', token({ alg: 'HS256', kid: '/dev/null' }, good, hmac(''))],
    ['a certificate of its own', token({ alg: 'RS256', x5c: ['MIIB'] }, good, rs256(stranger.privateKey))],
    ['a thumbprint', token({ alg: 'RS256', x5t: 'AA' }, good, rs256(stranger.privateKey))],
    ['a shared secret of its own', token({ alg: 'HS256', jwk: { kty: 'oct', k: b64('k') } }, good, hmac('k'))],
    ['an unencoded payload', token({ ...rs, b64: false, crit: ['b64'] })],
    ['crit empty', token({ ...rs, crit: [] })],
    ['crit a text', token({ ...rs, crit: 'exp' })],
    ['exp in crit', token({ ...rs, crit: ['exp'] })],
    ['two algorithms in one header', token('{"alg":"RS256","kid":"rsa","alg":"none"}')],
    ['a header that is a list', token('["RS256"]')],
    ['a header that is null', token('null')],
    ['a payload that is a list', token(rs, '[]')],
    ['a payload that is null', token(rs, 'null')],
    ['a payload that is a text', token(rs, '"x"')],
    ['an empty object', token(rs, '{}')],
    ['two issuers, the last one foreign', token(rs, `{"iss":"${issuer}","iss":"https://other.test","sub":"me"}`)],
    ['a payload of 15,000 open lists', token(rs, '['.repeat(7_000))],
    ['exp null', token(rs, { ...good, exp: null })],
    ['exp of the past, a fraction', token(rs, { ...good, exp: now - 60.5 })],
    ['exp below zero', token(rs, { ...good, exp: -1 })],
    ['exp true', token(rs, { ...good, exp: true })],
    ['nbf in an hour', token(rs, { ...good, nbf: now + 3600 })],
    ['iss null', token(rs, { ...good, iss: null })],
    ['iss with a zero byte', token(rs, { ...good, iss: `${issuer}\u0000` })],
    ['padding', `${head}=.${body}.${signature}`],
    ['the alphabet of plain base64', `${head}.${body}.${signature.slice(0, -2)}+/`],
    ['white space between', `${head}.${body} .${signature}`],
    ['a detached payload', `${head}..${signature}`],
    ['a dot in front', `.${head}.${body}.${signature}`],
    ['a dot behind', `${head}.${body}.${signature}.`],
    ['the word Bearer twice', `Bearer ${head}.${body}.${signature}`],
    ['a flipped bit in the signature', `${head}.${body}.${b64(flipped)}`],
    ['a signature that is cut', `${head}.${body}.${signature.slice(0, -4)}`],
    ['a signature with more behind it', `${head}.${body}.${signature}AAAA`],
    ['another payload', `${head}.${b64(JSON.stringify({ ...good, sub: 'root' }))}.${signature}`],
    ['another header', `${b64(JSON.stringify({ ...rs, typ: 'x' }))}.${body}.${signature}`],
    ['an RSA signature of zero', `${head}.${body}.${b64(Buffer.alloc(256))}`],
    ['1 MiB', `${head}.${'A'.repeat(1024 * 1024)}.${signature}`],
  ])('%s', async (_name, value) => {
    const started = performance.now();
    expect(await judged(value)).not.toMatch(/^good/);
    expect(performance.now() - started).toBeLessThan(1_000);
  }); // prettier-ignore
});

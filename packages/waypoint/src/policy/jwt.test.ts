import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { IpAddress, JwtRule } from '@ambit/api';
import { parseCidr, parseIp } from '@ambit/api';
import type { JWTPayload } from 'jose';
import { SignJWT, exportJWK, generateKeyPair } from 'jose';
import { HeaderList } from '../http/headers.ts';
import type { RequestHead } from '../http/message.ts';
import { createJwksSource } from './jwks.ts';
import { verifyTokens } from './jwt.ts';

const issuer = 'https://issuer.test';
const now = 1_800_000_000;
const jwks = createJwksSource();
let rsa: Awaited<ReturnType<typeof generateKeyPair>>;
let ec: Awaited<ReturnType<typeof generateKeyPair>>;
let stranger: Awaited<ReturnType<typeof generateKeyPair>>;
let rule: JwtRule;

beforeAll(async () => {
  [rsa, ec, stranger] = await Promise.all([
    generateKeyPair('RS256', { extractable: true }),
    generateKeyPair('ES256', { extractable: true }),
    generateKeyPair('RS256', { extractable: true }),
  ]);
  const keys = [
    { ...(await exportJWK(rsa.publicKey)), kid: 'rsa' },
    { ...(await exportJWK(ec.publicKey)), kid: 'ec' },
    {
      kty: 'oct',
      k: Buffer.from('a shared secret that everybody can read').toString('base64url'),
      kid: 'oct',
    },
  ];
  rule = {
    issuer,
    audiences: [],
    keys: { kind: 'inline', jwks: JSON.stringify({ keys }) },
    from: [],
    forwardOriginalToken: false,
    spaceDelimitedClaims: ['scope', 'permission'],
    outputClaimsToHeaders: [],
  };
});
afterAll(() => jwks.close());

function request(headers: readonly (readonly [string, string])[], path = '/'): RequestHead {
  return {
    method: 'GET',
    scheme: 'http',
    authority: 'x',
    path,
    headers: HeaderList.of(headers),
    protocol: 'HTTP/1.1',
    upgrade: undefined,
    expectContinue: false,
  };
}

async function sign(
  claims: JWTPayload,
  header: { alg?: string; kid?: string } & Record<string, unknown> = {},
  key: CryptoKey = rsa.privateKey,
): Promise<string> {
  return new SignJWT({ iss: issuer, sub: 'me', exp: now + 600, ...claims })
    .setProtectedHeader({ alg: 'RS256', kid: 'rsa', ...header })
    .sign(key);
}

async function judged(token: string, changes: Partial<JwtRule> = {}): Promise<string> {
  const outcome = await verifyTokens(
    [{ ...rule, ...changes }],
    request([['authorization', `Bearer ${token}`]]),
    jwks,
    now * 1000,
  );
  if (!outcome.ok) return outcome.error;
  return outcome.value[0]?.token.principal ?? 'none';
}

function parsed(text: string): IpAddress {
  const ip = parseIp(text);
  if (!ip.ok) throw new TypeError(text);
  return ip.value;
}

const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

describe('several rules of one issuer', () => {
  test('a token is good that is good by one of them, whichever comes first', async () => {
    const foreign = { ...(await exportJWK(stranger.publicKey)), kid: 'stranger' };
    const other: JwtRule = {
      ...rule,
      audiences: ['b'],
      keys: { kind: 'inline', jwks: JSON.stringify({ keys: [foreign] }) },
    };
    const first = { ...rule, audiences: ['a'] };
    const byOther = await sign({ aud: 'b' }, { kid: 'stranger' }, stranger.privateKey);
    const verdict = async (token: string, rules: readonly JwtRule[]): Promise<string> => {
      const asked = request([['authorization', `Bearer ${token}`]]);
      const outcome = await verifyTokens(rules, asked, jwks, now * 1000);
      return outcome.ok ? (outcome.value[0]?.rule.audiences.join() ?? '') : outcome.error;
    };
    expect(await verdict(byOther, [first, other])).toBe('b');
    expect(await verdict(byOther, [other, first])).toBe('b');
    expect(await verdict(await sign({ aud: 'a' }), [other, first])).toBe('a');
    // Audience of the one, key of the other: good by neither.
    const mixed = await sign({ aud: 'a' }, { kid: 'stranger' }, stranger.privateKey);
    expect(await verdict(mixed, [first, other])).toBe('Jwks does not have a key to match');
  });
});

describe('good tokens', () => {
  test('RS256 and ES256, with and without a key id', async () => {
    expect(await judged(await sign({}))).toBe(`${issuer}/me`);
    expect(await judged(await sign({}, { alg: 'ES256', kid: 'ec' }, ec.privateKey))).toBe(
      `${issuer}/me`,
    );
  });
  test('one audience of several is enough', async () => {
    expect(await judged(await sign({ aud: ['a', 'b'] }), { audiences: ['b', 'c'] })).toBe(
      `${issuer}/me`,
    );
  });
  test('words of a claim count one by one', async () => {
    const outcome = await verifyTokens(
      [{ ...rule, spaceDelimitedClaims: ['scope', 'roles'] }],
      request([
        [
          'authorization',
          `Bearer ${await sign({ scope: 'read  write', roles: 'dev', name: 'a b' })}`,
        ],
      ]),
      jwks,
      now * 1000,
    );
    expect(outcome.ok && outcome.value[0]?.token.claims).toMatchObject({
      scope: ['read', 'write'],
      roles: ['dev'],
      name: 'a b',
    });
    expect(outcome.ok && outcome.value[0]?.claims).toMatchObject({ scope: 'read  write' });
  });
  test('any issuer where the rule names none', async () => {
    expect(await judged(await sign({ iss: 'https://tenant-7.test' }), { issuer: '' })).toBe(
      'https://tenant-7.test/me',
    );
  });
  test('a minute of skew', async () => {
    expect(await judged(await sign({ exp: now - 30 }))).toBe(`${issuer}/me`);
    expect(await judged(await sign({ nbf: now + 30 }))).toBe(`${issuer}/me`);
  });
  test('none at all is neither good nor bad', async () => {
    const outcome = await verifyTokens([rule], request([]), jwks, now * 1000);
    expect(outcome).toEqual({ ok: true, value: [] });
  });
  test('from a parameter, a cookie and a header of its own', async () => {
    const token = await sign({});
    const from = [
      { kind: 'query', name: 'jwt' },
      { kind: 'cookie', name: 'session' },
      { kind: 'header', name: 'x-token', prefix: '' },
    ] as const;
    for (const one of [
      request([], `/?jwt=${token}`),
      request([['cookie', `a=b; session=${token}`]]),
      request([['x-token', token]]),
    ]) {
      const outcome = await verifyTokens([{ ...rule, from }], one, jwks, now * 1000);
      expect(outcome.ok && outcome.value.length).toBe(1);
    }
  });
});

describe('hostile tokens are refused', () => {
  const claims = (): JWTPayload => ({ iss: issuer, sub: 'me', exp: now + 600 });
  test.each<readonly [string, () => Promise<string>]>([
    ['empty', () => Promise.resolve('')],
    ['one part', () => Promise.resolve('abc')],
    ['two parts', () => Promise.resolve('a.b')],
    ['four parts', async () => `${await sign({})}.x`],
    ['five parts, an encrypted one', () => Promise.resolve('a.b.c.d.e')],
    ['no JSON', () => Promise.resolve(`${part({ alg: 'RS256' })}.e30x.sig`)],
    ['alg none', () => Promise.resolve(`${part({ alg: 'none' })}.${part(claims())}.`)],
    ['alg None', () => Promise.resolve(`${part({ alg: 'None' })}.${part(claims())}.`)],
    ['alg missing', () => Promise.resolve(`${part({})}.${part(claims())}.sig`)],
    ['alg a number', () => Promise.resolve(`${part({ alg: 1 })}.${part(claims())}.sig`)],
    ['no signature', async () => (await sign({})).replace(/\.[^.]*$/, '.')],
    [
      'a signature of another token',
      async () => {
        const [head, ,] = (await sign({ sub: 'you' })).split('.');
        return `${head ?? ''}.${part(claims())}.${(await sign({ sub: 'you' })).split('.')[2] ?? ''}`;
      },
    ],
    ['a foreign key', () => sign({}, {}, stranger.privateKey)],
    ['a foreign key with our id', () => sign({}, { kid: 'rsa' }, stranger.privateKey)],
    ['an unknown key id', () => sign({}, { kid: '../../etc/passwd' })],
    [
      'the public key as a shared secret',
      async () => {
        const secret = Buffer.from(JSON.stringify(await exportJWK(rsa.publicKey)));
        return new SignJWT(claims()).setProtectedHeader({ alg: 'HS256', kid: 'rsa' }).sign(secret);
      },
    ],
    [
      'the shared secret of the key set',
      () =>
        new SignJWT(claims())
          .setProtectedHeader({ alg: 'HS256', kid: 'oct' })
          .sign(Buffer.from('a shared secret that everybody can read')),
    ],
    [
      'a key of its own',
      async () =>
        sign({}, { kid: 'x', jwk: await exportJWK(stranger.publicKey) }, stranger.privateKey),
    ],
    [
      'a key from elsewhere',
      () => sign({}, { kid: 'x', jku: 'http://127.0.0.1/keys' }, stranger.privateKey),
    ],
    [
      'a certificate from elsewhere',
      () => sign({}, { kid: 'x', x5u: 'http://127.0.0.1/c' }, stranger.privateKey),
    ],
    ['an EC key for RSA', () => sign({}, { alg: 'ES256', kid: 'rsa' }, ec.privateKey)],
    [
      'critical extensions',
      () => Promise.resolve(`${part({ alg: 'RS256', crit: ['x'], x: 1 })}.${part(claims())}.sig`),
    ],
    ['expired', () => sign({ exp: now - 61 })],
    ['expired long ago', () => sign({ exp: 1 })],
    ['not yet valid', () => sign({ nbf: now + 61 })],
    ['exp a text', () => sign({ exp: 'tomorrow' as never })],
    ['nbf a text', () => sign({ nbf: 'yesterday' as never })],
    ['another issuer', () => sign({ iss: 'https://other.test' })],
    ['the issuer with a slash', () => sign({ iss: `${issuer}/` })],
    ['the issuer in capitals', () => sign({ iss: issuer.toUpperCase() })],
    ['the issuer a list', () => sign({ iss: [issuer] as never })],
    [
      'no issuer',
      async () =>
        new SignJWT({ sub: 'me' })
          .setProtectedHeader({ alg: 'RS256', kid: 'rsa' })
          .sign(rsa.privateKey),
    ],
    ['16 KiB and more', () => sign({ filler: 'x'.repeat(20_000) })],
    [
      'a deep payload',
      () =>
        Promise.resolve(
          `${part({ alg: 'RS256' })}.${Buffer.from('['.repeat(5_000)).toString('base64url')}.sig`,
        ),
    ],
    [
      'r and s of zero',
      async () => {
        const [head = '', payload = ''] = (
          await sign({}, { alg: 'ES256', kid: 'ec' }, ec.privateKey)
        ).split('.');
        return `${head}.${payload}.${Buffer.alloc(64).toString('base64url')}`;
      },
    ],
    [
      'a short signature',
      async () => {
        const [head = '', payload = ''] = (await sign({})).split('.');
        return `${head}.${payload}.AA`;
      },
    ],
    ['spaces in it', async () => (await sign({})).replace('.', ' . ')],
    ['a newline in it', async () => (await sign({})).replace('.', '\n.')],
  ])('%s', async (_name, make) => {
    const outcome = await judged(await make());
    expect(outcome).not.toContain(`${issuer}/`);
    expect(outcome).not.toBe('none');
  });

  test('another audience', async () => {
    expect(await judged(await sign({ aud: 'a' }), { audiences: ['b'] })).toBe(
      'Audiences in Jwt are not allowed',
    );
    expect(await judged(await sign({}), { audiences: ['b'] })).toBe(
      'Audiences in Jwt are not allowed',
    );
  });

  test('two tokens, one of them bad', async () => {
    const token = await sign({});
    const outcome = await verifyTokens(
      [rule],
      request([['authorization', `Bearer ${token}`]], '/?access_token=a.b.c'),
      jwks,
      now * 1000,
    );
    expect(outcome.ok).toBe(false);
    const twice = request([
      ['authorization', `Bearer ${token}`],
      ['authorization', `Bearer ${token}`],
    ]);
    expect((await verifyTokens([rule], twice, jwks, now * 1000)).ok).toBe(false);
  });

  test.each([
    ['no keys', { kind: 'none', why: 'none' } as const],
    ['keys that are no JSON', { kind: 'inline', jwks: '{' } as const],
    ['an empty set', { kind: 'inline', jwks: '{"keys":[]}' } as const],
  ])('%s', async (_name, keys) => {
    expect(await judged(await sign({}), { keys })).toMatch(/^Jwks cannot be had/);
  });
});

describe('keys from elsewhere', () => {
  async function served(
    answer: (path: string) => { status: number; body: string; headers?: Record<string, string> },
  ) {
    const asked: string[] = [];
    const server = createServer((incoming, response) => {
      asked.push(incoming.url ?? '');
      const { status, body, headers } = answer(incoming.url ?? '');
      response.writeHead(status, headers);
      response.end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    return {
      asked,
      uri: `http://127.0.0.1:${port}/keys`,
      close: async () => {
        server.closeAllConnections();
        await new Promise<void>((resolve) => server.close(() => resolve()));
      },
    };
  }
  const range = (text: string) => {
    const one = parseCidr(text);
    return one.ok ? [one.value] : [];
  };
  const allowed = range('127.0.0.0/8');
  const remote = (uri: string) => ({
    ...rule,
    keys: { kind: 'remote', uri, timeoutMs: 1000 } as const,
  });

  test('are fetched once for all who ask, and the last good ones outlive their source', async () => {
    let broken = false;
    const { keys } = rule;
    const body = keys.kind === 'inline' ? keys.jwks : '';
    const source = await served(() => (broken ? { status: 500, body: '' } : { status: 200, body }));
    let clock = now * 1000;
    const fetched = createJwksSource({ allowed, nowMs: () => clock });
    const asked = await Promise.all(
      Array.from({ length: 10 }, () => fetched.keys(remote(source.uri))),
    );
    expect(asked.every(({ ok }) => ok)).toBe(true);
    expect(source.asked.length).toBe(1);
    broken = true;
    clock += 25 * 60_000;
    expect((await fetched.keys(remote(source.uri))).ok).toBe(true);
    clock += 8 * 24 * 3_600_000;
    expect((await fetched.keys(remote(source.uri))).ok).toBe(false);
    fetched.close();
    await source.close();
  });

  test.each([
    ['a redirect', { status: 302, body: '', headers: { location: 'http://127.0.0.1:1/' } }],
    ['an error', { status: 404, body: '' }],
    ['nonsense', { status: 200, body: '<html>' }],
    ['2 MiB', { status: 200, body: `{"keys":"${'x'.repeat(2 * 1024 * 1024)}"}` }],
  ])('%s is no key set', async (_name, answer) => {
    const source = await served(() => answer);
    const fetched = createJwksSource({ allowed });
    expect((await fetched.keys(remote(source.uri))).ok).toBe(false);
    expect(source.asked.length).toBe(1);
    fetched.close();
    await source.close();
  });

  test('are asked for anew for a key id that nobody has, and not again within half a minute', async () => {
    const { keys } = rule;
    let body = '{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"old"}]}';
    const source = await served(() => ({ status: 200, body }));
    let clock = now * 1000;
    const fetched = createJwksSource({ allowed, nowMs: () => clock });
    const token = await sign({});
    const ask = async (): Promise<boolean> => {
      const head = request([['authorization', `Bearer ${token}`]]);
      return (await verifyTokens([remote(source.uri)], head, fetched, now * 1000)).ok;
    };
    expect(await ask()).toBe(false);
    body = keys.kind === 'inline' ? keys.jwks : '';
    expect(await ask()).toBe(false);
    expect(source.asked.length).toBe(1);
    clock += 30_000;
    expect(await ask()).toBe(true);
    expect(source.asked.length).toBe(2);
    fetched.close();
    await source.close();
  });

  test('a name is asked once: what it answers afterwards is not heard', async () => {
    const { keys } = rule;
    const source = await served(() => ({
      status: 200,
      body: keys.kind === 'inline' ? keys.jwks : '',
    }));
    const answers = ['127.0.0.1', '169.254.169.254', '127.0.0.1'];
    let asked = 0;
    const fetched = createJwksSource({
      allowed,
      resolve: () => Promise.resolve([parsed(answers[asked++] ?? '127.0.0.1')]),
    });
    const uri = source.uri.replace('127.0.0.1', 'keys.test');
    expect((await fetched.keys(remote(uri))).ok).toBe(true);
    expect(asked).toBe(1);
    const second = await fetched.keys(remote(`${uri}?2`));
    expect(second.ok ? '' : second.error).toContain('169.254.169.254, which may not be asked');
    expect(source.asked.length).toBe(1);
    fetched.close();
    await source.close();
  });

  test('one closed address of several closes the name; a name that does not answer is given up', async () => {
    const failures: string[] = [];
    const causes: string[] = [];
    const fetched = createJwksSource({
      resolve: (name) =>
        name === 'slow.test'
          ? new Promise(() => undefined)
          : Promise.resolve(['203.0.113.1', '127.0.0.1'].map(parsed)),
      onFailure: (uri, _error, cause) => {
        failures.push(uri);
        causes.push(cause);
      },
      isOfMesh: (ip) => ip === '10.96.0.10',
      // What is in the mesh stays closed in a range that is opened.
      allowed: range('10.96.0.0/16'),
    });
    const error = async (uri: string): Promise<string> => {
      const outcome = await fetched.keys(remote(uri));
      return outcome.ok ? '' : outcome.error;
    };
    expect(await error('http://both.test/')).toContain('127.0.0.1, which may not be asked');
    expect(await error('http://10.96.0.10/')).toContain('name a Service');
    const started = performance.now();
    expect(await error('http://slow.test/')).toContain('no key set came from there');
    expect(performance.now() - started).toBeLessThan(3_000);
    expect(causes.at(-1)).toContain('timeout');
    expect(failures).toEqual(['http://both.test/', 'http://10.96.0.10/', 'http://slow.test/']);
    fetched.close();
  });

  test.each([
    'http://127.0.0.1:1/',
    'http://localhost:1/',
    'http://[::1]:1/',
    'http://169.254.169.254/latest/meta-data',
    'http://[::ffff:127.0.0.1]:1/',
    'http://0.0.0.0:1/',
    'http://[fd00::1]:1/',
    'http://[fe80::1]:1/',
    'http://100.64.0.1:1/',
    'http://2130706433:1/',
  ])('%s may not be asked', async (uri) => {
    const fetched = createJwksSource();
    const outcome = await fetched.keys(remote(uri));
    expect(outcome.ok ? '' : outcome.error).toContain('may not be asked');
    fetched.close();
  });
});

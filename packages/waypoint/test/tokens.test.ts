import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { PolicyKey, SnapshotVersion, Upsert } from '@ambit/api';
import type { JWTPayload } from 'jose';
import { SignJWT, exportJWK, generateKeyPair } from 'jose';
import type { NodeProxy } from './node-proxy.ts';
import { startNodeProxy } from './node-proxy.ts';
import { anAuthentication } from './nouns.ts';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startBackend, startWorld } from './world.ts';

/** Tokens over real sockets, with keys from a server that is itself a service of the mesh. */
let world: WaypointWorld;
let shop: Backend;
let server: Backend;
let keys: Awaited<ReturnType<typeof generateKeyPair>>;
let node: NodeProxy;
let keysDown = false;
const keysIp = '127.0.4.2';
const keysKey = 'auth/keys.auth.svc.cluster.local';

beforeAll(async () => {
  keys = await generateKeyPair('RS256');
  const jwks = JSON.stringify({ keys: [{ ...(await exportJWK(keys.publicKey)), kid: 'k' }] });
  shop = await startBackend('v1', (request, response) => {
    if (request.url !== '/events') response.end('ok');
    else response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 1\n\n');
  });
  server = await startBackend('keys', (request, response) => {
    if (request.url === '/cut') request.socket.destroy();
    response.statusCode = keysDown ? 500 : 200;
    response.end(keysDown ? '' : jwks);
  });
  world = await startWorld({
    workloads: [
      endpointOf(shop),
      {
        name: 'keys',
        namespace: 'test',
        serviceAccount: 'keys',
        addresses: [keysIp],
        tunnel: 'hbone',
        services: [
          { service: keysKey, ready: true, ports: [{ servicePort: 8080, targetPort: 80 }] },
        ],
      },
    ],
    services: [
      shopService(),
      {
        name: 'keys',
        namespace: 'auth',
        hostname: 'keys.auth.svc.cluster.local',
        vips: ['10.96.0.9'],
        ports: [{ port: 8080, name: 'http', appProtocol: '' }],
      },
    ],
  });
  node = await startNodeProxy(world.ca, keysIp, server, 'keys');
});
afterAll(async () => {
  await world.close();
  await node.close();
  await shop.close();
  await server.close();
});

let version = 0;
async function authentication(rule: object, more: object = {}): Promise<void> {
  version += 1;
  const keysOfMesh = { kind: 'remote', uri: 'http://keys.auth:8080/jwks', timeoutMs: 2000 };
  const own = { keys: keysOfMesh, spaceDelimitedClaims: ['scope'] };
  const upsert = {
    type: 'authentication',
    name: 'test/jwt',
    version: `a${version}` as SnapshotVersion,
    resource: anAuthentication({ ...own, ...rule }, { ...more }),
  };
  await world.tell({ more: [upsert as Upsert] });
}

function sign(claims: JWTPayload = {}): Promise<string> {
  return new SignJWT({ iss: 'me', sub: 'sub-1', ...claims })
    .setProtectedHeader({ alg: 'RS256', kid: 'k' })
    .setExpirationTime('10m')
    .sign(keys.privateKey);
}

const bearer = async (claims: JWTPayload = {}) => ({
  headers: { authorization: `Bearer ${await sign(claims)}` },
});

test('keys are had from a service of the mesh by its name, and outlive its failure', async () => {
  await authentication({});
  const answer = await world.ask(await bearer());
  expect([
    answer.status,
    answer.body,
    world.log.filter((line) => line.includes('keys for')),
  ]).toEqual([200, expect.any(String), []]);
  expect(server.requests.map(({ url }) => url)).toEqual(['/jwks']);
  expect(shop.requests.at(-1)?.headers).not.toHaveProperty('authorization');
  keysDown = true;
  expect((await world.ask(await bearer({ sub: 'sub-2' }))).status).toBe(200);
  // A source that was never had: nobody's token is good.
  await authentication({
    keys: { kind: 'remote', uri: 'http://keys.auth:8080/x', timeoutMs: 500 },
  });
  expect((await world.ask(await bearer())).status).toBe(401);
  await authentication({ keys: { kind: 'remote', uri: 'http://10.96.0.9:8080/', timeoutMs: 500 } });
  expect((await world.ask(await bearer())).status).toBe(401);
  expect(world.log.some((line) => line.includes('10.96.0.9, which may not be asked'))).toBe(true);
  keysDown = false;
  // Whoever hangs up is not asked for ever.
  await authentication({
    keys: { kind: 'remote', uri: 'http://keys.auth:8080/cut', timeoutMs: 500 },
  });
  expect((await world.ask(await bearer())).status).toBe(401);
  expect(new Set(node.authorities)).toEqual(new Set([`${keysIp}:80`]));
});

test('keys that cannot be had are reported before anybody sends a token, until they can', async () => {
  keysDown = true;
  const reported = () => world.controller.reports.at(-1)?.problems ?? [];
  await authentication({
    keys: { kind: 'remote', uri: 'http://keys.auth:8080/later', timeoutMs: 500 },
  });
  await until(() => reported()[0]?.message.includes('/later') === true);
  expect(reported()).toEqual([
    {
      type: 'authentication',
      name: 'test/jwt',
      field: 'spec.jwtRules[0].jwksUri',
      message: expect.stringContaining(
        'keys not fetched from http://keys.auth:8080/later',
      ) as unknown,
    },
  ]);
  keysDown = false;
  await until(() => reported().length === 0);
  expect((await world.ask(await bearer())).status).toBe(200);
}, 30_000);

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not so in time: ${holds.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('a refusal says that the token is at fault; no token at all passes', async () => {
  await authentication({});
  const forged = { headers: { authorization: `Bearer ${await sign()}x` } };
  expect(await world.ask(forged)).toMatchObject({
    status: 401,
    body: 'Jwt verification fails',
    headers: { 'www-authenticate': expect.stringContaining('error="invalid_token"') as unknown },
  });
  expect((await world.ask({})).status).toBe(200);
});

test('tokens are taken out of parameters and cookies, the rest stays as it came', async () => {
  await authentication({
    from: [
      { kind: 'query', name: 'jwt' },
      { kind: 'cookie', name: 'session' },
    ],
  });
  const token = await sign();
  expect((await world.ask({ path: `/a?x=%2f&jwt=${token}&y` })).status).toBe(200);
  expect(shop.requests.at(-1)?.url).toBe('/a?x=%2f&y');
  const cookie = `a=b; session=${token}; c=d`;
  expect((await world.ask({ headers: { cookie } })).status).toBe(200);
  expect(shop.requests.at(-1)?.headers.cookie).toBe('a=b; c=d');
});

test('headers for claims are written by the waypoint alone', async () => {
  await authentication({
    forwardOriginalToken: true,
    outputPayloadToHeader: 'x-payload',
    outputClaimsToHeaders: [
      { header: 'x-scope', claim: ['scope'] },
      { header: 'x-level', claim: ['deep', 'level'] },
      { header: 'x-break', claim: ['break'] },
    ],
  });
  const forged = { 'x-payload': 'forged', 'x-scope': 'all', 'x-level': '99', 'x-break': 'x' };
  expect((await world.ask({ headers: forged })).status).toBe(200);
  for (const name of Object.keys(forged)) {
    expect(shop.requests.at(-1)?.headers).not.toHaveProperty(name);
  }
  const { headers } = await bearer({
    scope: 'read write',
    deep: { level: 7 },
    break: 'a\r\nx-evil: 1',
  });
  expect((await world.ask({ headers: { ...headers, ...forged } })).status).toBe(200);
  const seen = shop.requests.at(-1)?.headers;
  expect(seen).toMatchObject({
    'x-scope': 'read write',
    'x-level': '7',
    'x-payload': headers.authorization.split('.')[1],
    authorization: headers.authorization,
  });
  expect(seen).not.toHaveProperty('x-break');
  expect(seen).not.toHaveProperty('x-evil');
});

test('one that cannot be read refuses every request for its targets', async () => {
  await authentication({}, { broken: true, rules: [] });
  expect((await world.ask({})).status).toBe(401);
  await authentication({});
  expect((await world.ask({})).status).toBe(200);
});

/** An answer without an end: what came of it, and whether it was cut. */
async function events(as: string, headers: Record<string, string>) {
  const stream = await world.tunnel(80, as);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const one = { text: '', cut: false, stream };
  stream.on('data', (chunk: Buffer) => (one.text += chunk.toString('latin1')));
  stream.on('error', () => (one.cut = true));
  stream.write(`GET /events HTTP/1.1\r\nhost: shop\r\n${lines.join('')}\r\n`);
  await until(() => one.text.includes('data: 1'));
  return one;
}

const requestPrincipal = {
  kind: 'request',
  attribute: { kind: 'requestPrincipal' },
  values: [{ kind: 'exact', value: 'me/sub-1' }],
  notValues: [],
};

const long = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe('a changed RequestAuthentication', () => {
  afterEach(async () => {
    await until(() => world.waypoint.context.live.size === 0);
  });

  test('cuts streams whose token is not good by it, within a second, and no others', async () => {
    await authentication({ audiences: ['a', 'b'] });
    const mine = await events('client', (await bearer({ aud: 'a' })).headers);
    const good = await events('client', (await bearer({ aud: 'b' })).headers);
    const without = await events('client', {});
    const lines = world.log.length;
    const changedAt = performance.now();
    await authentication({ audiences: ['b'] });
    await until(() => mine.cut);
    expect(performance.now() - changedAt).toBeLessThan(2_000);
    expect(mine.text).not.toContain('\r\n0\r\n');
    await long(700);
    expect([good.cut, without.cut]).toEqual([false, false]);
    const told = world.log.slice(lines).filter((line) => line.includes('no longer allowed'));
    expect(told.map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { policy: 'test/jwt', error: 'Audiences in Jwt are not allowed' },
    ]);
    await until(() => world.access.some((line) => line.includes('jwt_authn_access_denied')));
    // A second change that changes nothing for it: the token that was taken away is still known.
    await authentication({ audiences: ['b', 'c'] });
    await long(700);
    expect(good.cut).toBe(false);
    await authentication({ audiences: ['c'] });
    await until(() => good.cut);
    without.stream.destroy();
  });

  test('lets policies judge again what the token says', async () => {
    await authentication({ issuer: 'me' });
    const key = 'test/tokens' as PolicyKey;
    await world.tell({
      policies: [
        {
          name: 'tokens',
          scope: { kind: 'targeted', targets: [{ kind: 'service', service: shopKey }] },
          action: 'ALLOW',
          rules: [{ from: [[requestPrincipal]], to: [], when: [] }],
        },
      ],
    });
    const mine = await events('client', (await bearer()).headers);
    await world.controller.push([], [{ type: 'authentication', name: 'test/jwt' }]);
    await until(() => mine.cut);
    await world.controller.push([], [{ type: 'policy', name: key }]);
  });

  test('that is the first one finds the tokens of what came before it', async () => {
    const mine = await events('client', (await bearer({ aud: 'a' })).headers);
    const good = await events('client', (await bearer({ aud: 'b' })).headers);
    await authentication({ audiences: ['b'] });
    await until(() => mine.cut);
    expect(good.cut).toBe(false);
    good.stream.destroy();
  });
});

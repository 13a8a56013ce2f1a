import { createServer } from 'node:http';
import { connect } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { SnapshotVersion, Upsert } from '@ambit/api';
import { aMesh } from '@ambit/testkit';
import { SignJWT, exportJWK, generateKeyPair } from 'jose';
import { anAuthentication } from './nouns.ts';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startBackend, startWorld } from './world.ts';

/** Fields by which only the waypoint speaks to the application, and tokens that nobody else is to read. */
let world: WaypointWorld;
let shop: Backend;
let jwks: string;
let privateKey: CryptoKey;
let token: string;
let says: Record<string, string> = {};
const gate = createServer((_request, response) => response.writeHead(200, says).end());

beforeAll(async () => {
  const pair = await generateKeyPair('RS256');
  ({ privateKey } = pair);
  jwks = JSON.stringify({ keys: [{ ...(await exportJWK(pair.publicKey)), kid: 'k' }] });
  token = await sign();
  await new Promise<void>((resolve) => gate.listen(0, '127.0.0.1', resolve));
  shop = await startBackend('shop', (request, response) => {
    request.resume().on('end', () => response.end('ok'));
  });
  world = await startWorld({ services: [shopService()], workloads: [endpointOf(shop)] });
});
afterAll(async () => {
  await world.close();
  await shop.close();
  gate.closeAllConnections();
  gate.close();
});
beforeEach(() => {
  shop.requests.length = 0;
  world.access.length = 0;
});

function sign(claims: object = {}): Promise<string> {
  return new SignJWT({ iss: 'me', sub: 'alice', ...claims })
    .setProtectedHeader({ alg: 'RS256', kid: 'k' })
    .setExpirationTime('10m')
    .sign(privateKey);
}

let version = 0;
async function tell(type: 'authentication' | 'mesh', name: string, resource: unknown) {
  version += 1;
  const upsert = { type, name, version: `s${version}` as SnapshotVersion, resource };
  await world.tell({ more: [upsert as Upsert] });
}

async function authentication(rule: object = {}): Promise<void> {
  const told = anAuthentication({
    keys: { kind: 'inline', jwks },
    outputClaimsToHeaders: [{ header: 'x-user', claim: ['sub'] }],
    outputPayloadToHeader: 'x_payload',
    ...rule,
  });
  await tell('authentication', 'test/jwt', told);
}

async function authorizer(fields: object): Promise<void> {
  const provider = {
    kind: 'ext-authz-http',
    name: 'gate',
    address: { host: 'localhost', port: (gate.address() as AddressInfo).port },
    timeoutMs: 1_000,
    failOpen: false,
    statusOnError: 403,
    pathPrefix: '',
    includeRequestHeaders: [],
    additionalHeaders: [],
    headersToUpstreamOnAllow: ['x-user', 'x-auth-*'],
    headersToDownstreamOnDeny: [],
    headersToDownstreamOnAllow: [],
    ...fields,
  };
  await tell('mesh', 'default', aMesh({ roots: [world.ca.rootPem], providers: [provider] }));
  await world.tell({
    policies: [
      {
        name: 'ask',
        action: 'CUSTOM',
        provider: 'gate',
        scope: { kind: 'targeted', targets: [{ kind: 'service', service: shopKey }] },
        rules: [{ from: [], to: [], when: [] }],
      },
    ],
  });
}

async function noAuthorizer(): Promise<void> {
  await world.controller.push([], [{ type: 'policy', name: 'test/ask' }]);
}

/** What the application sees of a request with these fields before and after its body, by name. */
interface Seen {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly trailers: Readonly<Record<string, unknown>>;
}
type Fields = Readonly<Record<string, string>>;

function seen(status: number): Seen {
  const request = shop.requests.at(-1);
  return { status, headers: request?.headers ?? {}, trailers: request?.trailers ?? {} };
}

const lines = (fields: Fields) =>
  Object.entries(fields)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('');

async function overHttp1(headers: Fields, trailers: Fields): Promise<Seen> {
  const stream = await world.tunnel(80);
  stream.write(
    `POST / HTTP/1.1\r\nhost: shop\r\n${lines(headers)}transfer-encoding: chunked\r\nconnection: close\r\n\r\n1\r\na\r\n0\r\n${lines(trailers)}\r\n`,
  );
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return seen(Number(Buffer.concat(chunks).toString().split(' ')[1]));
}

async function overHttp2(headers: Fields, trailers: Fields): Promise<Seen> {
  const tunnel = await world.tunnel(80);
  const session = connect('http://shop', { createConnection: () => tunnel });
  const stream = session.request(
    { ':method': 'POST', ':path': '/', ...headers },
    {
      waitForTrailers: true,
    },
  );
  stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  const status = new Promise<number>((resolve, reject) => {
    stream.on('error', reject);
    stream.on('response', (head) => resolve(head[':status'] ?? 0));
  });
  stream.end('a');
  stream.resume();
  const answered = await status;
  session.destroy();
  return seen(answered);
}

const protocols = [
  ['HTTP/1.1', overHttp1],
  ['HTTP/2', overHttp2],
] as const;

describe.each(protocols)('over %s', (_protocol, ask) => {
  const forged = { x_user: 'admin', 'x-user': 'admin', 'x-payload': 'forged', x_payload: 'forged' };

  test('nobody says in the place of a token what it says, not by a twin or a trailer', async () => {
    await authentication();
    const without = await ask({ ...forged, 'x-other_one': '1' }, { ...forged, 'x-sum_1': '7' });
    expect(without.status).toBe(200);
    expect(without.headers).toMatchObject({ 'x-other_one': '1' });
    expect(without.trailers).toEqual({ 'x-sum_1': '7' });
    for (const name of Object.keys(forged)) expect(without.headers).not.toHaveProperty(name);
    const good = await ask({ ...forged, authorization: `Bearer ${token}` }, forged);
    expect(good.headers).toMatchObject({ 'x-user': 'alice', x_payload: token.split('.')[1] });
    expect(good.headers).not.toHaveProperty('x_user');
    expect(good.headers).not.toHaveProperty('x-payload');
    expect(good.trailers).toEqual({});
  });

  test('nor in the place of an authorizer, whatever fields it may write', async () => {
    await authentication({ outputClaimsToHeaders: [], outputPayloadToHeader: undefined });
    says = { 'x-user': 'bob', 'x-auth-role': 'guest', 'x-any': '1' };
    const sent = { ...forged, x_auth_role: 'admin', 'x-auth_other': 'admin', x_any: '2' };
    await authorizer({});
    const asked = await ask(sent, { ...sent, 'x-sum': '7' });
    expect(asked.headers).toMatchObject({ 'x-user': 'bob', 'x-auth-role': 'guest', x_any: '2' });
    for (const name of ['x_user', 'x_auth_role', 'x-auth_other']) {
      expect(asked.headers).not.toHaveProperty(name);
    }
    expect(asked.trailers).toEqual({ 'x-sum': '7' });
    await authorizer({ headersToUpstreamOnAllow: ['*'] });
    const all = await ask(sent, { x_any: '2', 'x-user': 'admin' });
    expect(all.headers).toMatchObject({ 'x-user': 'bob', 'x-any': '1' });
    for (const name of ['x_user', 'x_any']) expect(all.headers).not.toHaveProperty(name);
    expect(all.trailers).toEqual({});
    await noAuthorizer();
  });

  test('where nothing is configured, everything stays as it came', async () => {
    await authentication({ outputClaimsToHeaders: [], outputPayloadToHeader: undefined });
    const { headers, trailers } = await ask({ x_user: '1', 'x-user': '2' }, { 'x-sum': '3' });
    expect(headers).toMatchObject({ x_user: '1', 'x-user': '2' });
    expect(trailers).toEqual({ 'x-sum': '3' });
  });
});

async function logged(what: string): Promise<string> {
  const has = () => world.access.some((line) => line.includes(what));
  for (let tries = 0; !has() && tries < 400; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return world.access.join('\n');
}

describe('a token', () => {
  test('is taken away from every place in which it stood', async () => {
    await authentication({
      from: [
        { kind: 'header', name: 'authorization', prefix: 'Bearer ' },
        { kind: 'query', name: 'access_token' },
        { kind: 'cookie', name: 'session' },
      ],
    });
    const headers = { authorization: `Bearer ${token}`, cookie: `a=b; session=${token}` };
    const path = `/?x=%2f&access%5Ftoken=${token}&y`;
    expect((await world.ask({ path, headers })).status).toBe(200);
    const { url, headers: passed } = shop.requests.at(-1) ?? {};
    expect([url, passed?.authorization, passed?.cookie]).toEqual(['/?x=%2f&y', undefined, 'a=b']);
    await authentication();
    await world.ask({ path, headers });
    expect(shop.requests.at(-1)?.url).toBe('/?x=%2f&y');
    await authentication({ forwardOriginalToken: true });
    await world.ask({ path, headers });
    expect(shop.requests.at(-1)?.url).toBe(path);
  });

  test('in the query is in no log, whether good, refused, not needed, or of a path that is refused', async () => {
    await authentication({ from: [{ kind: 'query', name: 'my token' }] });
    const text = `${token}x`;
    const paths = [
      `/a?my+token=${token}&z=1`,
      `/b?z=1&my%20token=${text}`,
      `/c?access_token=${token}`,
      `/d?my+token=${token}&my+token=${text}`,
      `/%00?access_token=${token}`,
      `/e?z=1&&access_token=${token}&access_token=${text}`,
    ];
    const statuses: number[] = [];
    for (const path of paths) statuses.push((await world.ask({ path })).status);
    expect(statuses).toEqual([200, 401, 200, 401, 400, 200]);
    const log = await logged(' /e?');
    expect(log).not.toContain(token.slice(0, 30));
    for (const path of ['/a?z=1', '/b?z=1', '/c', '/d', '/%00', '/e?z=1&']) {
      expect(log).toContain(` ${path} `);
    }
    expect(world.log.some((line) => line.includes(token))).toBe(false);
  });
});

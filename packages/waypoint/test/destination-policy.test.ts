import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { PolicyKey, SnapshotVersion, Upsert } from '@ambit/api';
import { decodeRateLimitPolicy, defaultTraffic, noChanges, parseIp, parsePort } from '@ambit/api';
import { duplexOf } from '@ambit/core';
import { decoded } from '@ambit/testkit';
import type { CryptoKey } from 'jose';
import { SignJWT, exportJWK, generateKeyPair } from 'jose';
import { anAuthentication, exact, forward, match, prefix, route } from './nouns.ts';
import type { Answer, Asking, Backend, WaypointWorld } from './world.ts';
import { bound, endpointOf, shopKey, shopService, startBackend, startWorld } from './world.ts';

/** A route leads from the shop, which is open to all, to a bank with policies of its own behind the same waypoint. */
let world: WaypointWorld;
let shop: Backend;
let bank: Backend;
const bankKey = 'bank/bank.bank.svc.cluster.local';
const ofBank = [{ kind: 'service', service: bankKey }];
const everything = [{ from: [], to: [], when: [] }];

beforeAll(async () => {
  shop = await startBackend('shop');
  bank = await startBackend('bank');
  world = await startWorld({
    services: [
      shopService({
        ports: [
          { port: 80, name: 'http', appProtocol: '' },
          { port: 90, name: 'tcp', appProtocol: '' },
        ],
      }),
      {
        name: 'bank',
        namespace: 'bank',
        hostname: 'bank.bank.svc.cluster.local',
        vips: ['10.96.0.2'],
        ...bound,
      },
    ],
    workloads: [
      endpointOf(shop),
      endpointOf(
        bank,
        {},
        {
          namespace: 'bank',
          ...bound,
          services: [
            { service: bankKey, ready: true, ports: [{ servicePort: 80, targetPort: bank.port }] },
          ],
        },
      ),
    ],
    clusters: [{ service: bankKey, policy: defaultTraffic, subsets: [] }],
  });
}, 30_000);
afterAll(async () => {
  await world.close();
  await shop.close();
  await bank.close();
});

const told: { readonly type: Upsert['type']; readonly name: string }[] = [];
afterEach(async () => {
  bank.requests.length = 0;
  const removed = told.splice(0).map(({ type, name }) => ({ type, name: name as PolicyKey }));
  if (removed.length > 0) await world.controller.push([], removed);
});

async function policy(fields: Record<string, unknown>, targets: object[] = ofBank): Promise<void> {
  told.push({ type: 'policy', name: 'bank/closed' });
  await world.tell({
    policies: [
      { name: 'closed', namespace: 'bank', scope: { kind: 'targeted', targets }, ...fields },
    ],
  });
}

let versions = 0;
async function more(type: Upsert['type'], name: string, resource: unknown): Promise<void> {
  versions += 1;
  told.push({ type, name });
  const upsert = { type, name, version: `n${versions}` as SnapshotVersion, resource };
  await world.tell({ more: [upsert as Upsert] });
}

const toBank = {
  weight: 100,
  target: { kind: 'service', service: bankKey, port: 80 },
  request: noChanges,
  response: noChanges,
};
const routed = (...http: object[]) =>
  world.tell({
    routes: [{ service: shopKey, http, tcp: [{ name: 't', matches: [], targets: [toBank] }] }],
  });
const ask = (asking: Asking = {}): Promise<Answer> => world.ask(asking);

/** The first line of what an address answers through the waypoint. */
async function byAddress(ip: string, port: number, request: string): Promise<string> {
  const session = await world.session();
  const [address, number] = [parseIp(ip), parsePort(port)];
  if (!address.ok || !number.ok) throw new TypeError('no address');
  const { stream } = await session.openTunnel({
    authority: { kind: 'address', ip: address.value, port: number.value },
    headers: [],
    timeoutMs: 5000,
  });
  const duplex = duplexOf(stream);
  duplex.on('error', () => undefined);
  duplex.write(request);
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of duplex) chunks.push(chunk as Buffer);
  } catch {
    return 'cut';
  }
  return Buffer.concat(chunks).toString().split('\r\n')[0] ?? '';
}
const get = 'GET /secret HTTP/1.1\r\nhost: bank\r\nconnection: close\r\n\r\n';

test('without a policy of its own the bank is reached by the route', async () => {
  await routed(route({ action: forward(toBank) }));
  expect((await ask()).body).toBe('bank GET / ');
  await until(() => world.access.length > 0);
  expect(await world.metrics.render()).toMatch(
    /istio_requests_total\{[^}]*destination_service="bank\.bank\.svc\.cluster\.local"/,
  );
});

describe('what holds for the bank holds for what a route leads there:', () => {
  beforeAll(async () => {
    await routed(route({ action: forward(toBank) }));
  });

  test('DENY', async () => {
    await policy({ action: 'DENY', rules: everything });
    const { status, body } = await ask();
    expect([status, body]).toEqual([403, 'RBAC: access denied']);
    expect(bank.requests).toEqual([]);
    await until(() => world.access.at(-1)?.includes(' 403 ') === true);
    expect(world.access.at(-1)).toContain('rbac_access_denied_matched_policy[bank/closed]');
  });

  test('ALLOW of another path, by the path that came', async () => {
    const path = { kind: 'request', attribute: { kind: 'path' } };
    const to = [[{ ...path, values: [exact('/open')], notValues: [] }]];
    await policy({ action: 'ALLOW', rules: [{ from: [], to, when: [] }] });
    expect((await ask({ path: '/open' })).status).toBe(200);
    expect((await ask({ path: '/other' })).status).toBe(403);
  });

  test('DENY of what the bank gets, whatever was asked for', async () => {
    const toAdmin = {
      ...forward(toBank),
      rewrite: { path: { kind: 'prefix', matched: '/x', value: '/admin' } },
    };
    await routed(
      route({
        action: toAdmin,
        matches: [match({ path: prefix('/x') })],
        request: { ...noChanges, set: [['x-role', 'root']] },
        mirrors: [],
      }),
      route({
        action: forward({ ...toBank, target: { ...toBank.target, service: shopKey } }),
        request: { ...noChanges, set: [['x-role', 'root']] },
        mirrors: [{ target: toBank.target, percentage: 100 }],
      }),
    );
    expect((await ask({ path: '/x/reset' })).body).toBe('bank GET /admin/reset ');
    const path = { kind: 'request', attribute: { kind: 'path' }, notValues: [] };
    const admin = { ...path, values: [{ kind: 'prefix', value: '/admin' }] };
    await policy({ action: 'DENY', rules: [{ from: [], to: [[admin]], when: [] }] });
    expect((await ask({ path: '/x/reset' })).status).toBe(403);
    const role = {
      kind: 'request',
      attribute: { kind: 'header', name: 'x-role' },
      values: [exact('root')],
      notValues: [],
    };
    await policy({ action: 'DENY', rules: [{ from: [], to: [], when: [role] }] });
    expect((await ask({ path: '/x/reset' })).status).toBe(403);
    const before = bank.requests.length;
    expect((await ask({ path: '/copied' })).body).toContain('shop');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(bank.requests).toHaveLength(before);
    await routed(route({ action: forward(toBank) }));
  });

  test('a policy in dry run, and one of another service, let it go', async () => {
    await policy({ action: 'DENY', dryRun: true, rules: everything });
    expect((await ask()).status).toBe(200);
    await policy({ action: 'DENY', rules: everything }, [
      { kind: 'service', service: 'bank/other.bank.svc.cluster.local' },
    ]);
    expect((await ask()).status).toBe(200);
  });

  test('CUSTOM, of which nobody can be asked', async () => {
    await policy({ action: 'CUSTOM', provider: 'nobody', rules: everything });
    expect((await ask()).status).toBe(403);
  });

  test('RateLimitPolicy', async () => {
    const limit = {
      name: 'few',
      namespace: 'bank',
      targets: ofBank,
      dryRun: false,
      limits: [
        {
          name: 'l',
          when: [],
          routes: [],
          key: { kind: 'none' },
          requests: 1,
          perMs: 3_600_000,
          burst: 1,
        },
      ],
    };
    await more('rate-limit', 'bank/few', decoded(decodeRateLimitPolicy, limit));
    expect([(await ask()).status, (await ask()).status]).toEqual([200, 429]);
  });

  test('a policy that comes while a request lasts', async () => {
    const answer = ask({ method: 'POST', path: '/late', body: 'x', bodyAfterMs: 1500 });
    await new Promise((resolve) => setTimeout(resolve, 200));
    await policy({ action: 'DENY', rules: everything });
    expect((await answer).status).toBe(403);
  });
});

describe('tokens', () => {
  let keys: { readonly publicKey: CryptoKey; readonly privateKey: CryptoKey };
  beforeAll(async () => {
    keys = await generateKeyPair('RS256');
    await routed(route({ action: forward(toBank) }));
  });

  async function authentication(name: string, targets: object[], rule: object = {}) {
    const jwks = JSON.stringify({ keys: [{ ...(await exportJWK(keys.publicKey)), kid: 'k' }] });
    await more(
      'authentication',
      `bank/${name}`,
      anAuthentication(
        { keys: { kind: 'inline', jwks }, ...rule },
        { name, namespace: 'bank', targets },
      ),
    );
  }
  const bearer = async (key: CryptoKey = keys.privateKey) => ({
    authorization: `Bearer ${await new SignJWT({ iss: 'me', sub: 'ann' })
      .setProtectedHeader({ alg: 'RS256', kid: 'k' })
      .setExpirationTime('10m')
      .sign(key)}`,
  });
  const outputs = { outputClaimsToHeaders: [{ header: 'x-user', claim: ['sub'] }] };

  test('are verified for the bank, which is told what they say, and nobody else says it', async () => {
    await authentication('jwt', ofBank, outputs);
    expect((await ask({ headers: { 'x-user': 'forged' } })).status).toBe(200);
    expect(bank.requests.at(-1)?.headers['x-user']).toBeUndefined();
    expect((await ask({ headers: await bearer() })).status).toBe(200);
    const { headers } = bank.requests.at(-1) ?? {};
    expect([headers?.['x-user'], headers?.authorization]).toEqual(['ann', undefined]);
    const { privateKey } = await generateKeyPair('RS256');
    expect((await ask({ headers: await bearer(privateKey) })).status).toBe(401);
  });

  test('that the shop has taken away still count for the bank', async () => {
    await authentication('jwt', ofBank, outputs);
    await authentication('of-shop', [{ kind: 'service', service: shopKey }]);
    const when = [
      {
        kind: 'request',
        attribute: { kind: 'requestPrincipal' },
        values: [{ kind: 'presence' }],
        notValues: [],
      },
    ];
    await policy({ action: 'ALLOW', rules: [{ from: [], to: [], when }] });
    expect((await ask()).status).toBe(403);
    expect((await ask({ headers: await bearer() })).status).toBe(200);
    const { headers } = bank.requests.at(-1) ?? {};
    expect([headers?.['x-user'], headers?.authorization]).toEqual(['ann', undefined]);
  });
});

test('a copy that the bank does not let in is not sent', async () => {
  const mirrors = [{ target: toBank.target, percentage: 100 }];
  const own = { ...toBank, target: { ...toBank.target, service: shopKey } };
  await routed(route({ action: forward(own), mirrors, matches: [match()] }));
  expect((await ask()).body).toContain('shop');
  await until(() => bank.requests.length === 1);
  await policy({ action: 'DENY', rules: everything });
  expect((await ask()).body).toContain('shop');
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(bank.requests).toHaveLength(1);
});

test('a connection that a route leads there is judged by the bank, too', async () => {
  await routed();
  expect(await byAddress('10.96.0.1', 90, get)).toBe('HTTP/1.1 200 OK');
  await policy({ action: 'DENY', rules: everything });
  expect(await byAddress('10.96.0.1', 90, get)).toBe('cut');
  expect(bank.requests).toHaveLength(1);
});

test('a pod that is asked for by its address is behind the policies of its services', async () => {
  expect(await byAddress(bank.ip, bank.port, get)).toBe('HTTP/1.1 200 OK');
  await policy({ action: 'DENY', rules: everything });
  expect(await byAddress(bank.ip, bank.port, get)).toBe('HTTP/1.1 403 Forbidden');
});

async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error('not so after 5 s');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

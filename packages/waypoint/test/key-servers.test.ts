import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { SnapshotVersion, Upsert } from '@ambit/api';
import type { NodeProxy } from './node-proxy.ts';
import { startNodeProxy } from './node-proxy.ts';
import { anAuthentication } from './nouns.ts';
import type { Backend, Nouns, WaypointWorld } from './world.ts';
import { bound, endpointOf, shopService, startBackend, startWorld } from './world.ts';

/** Whom a waypoint asks for keys, when anybody who may write a RequestAuthentication can name anybody. */
let world: WaypointWorld;
let shop: Backend;
let bank: Backend;
let plain: Backend;
let node: NodeProxy;
const bankIp = '127.0.4.3';
const bankKey = 'bank/bank.bank.svc.cluster.local';
const elsewhere = {
  waypoint: { kind: 'service', service: 'x/x.x.svc.cluster.local', port: 15008 },
};

const service = (name: string, vip: string, more: object = {}) => ({
  name,
  namespace: 'bank',
  hostname: `${name}.bank.svc.cluster.local`,
  vips: [vip],
  ports: [{ port: 80, name: 'http', appProtocol: '' }],
  ...more,
});
const memberOf = (key: string, targetPort: number) => ({
  service: key,
  ready: true,
  ports: [{ servicePort: 80, targetPort }],
});

beforeAll(async () => {
  shop = await startBackend('shop');
  bank = await startBackend('bank', (_request, response) => response.end('{"keys":[]}'));
  plain = await startBackend('plain');
  world = await startWorld({
    services: [
      shopService(),
      service('bank', '10.96.0.2', bound),
      service('back-door', '10.96.0.3'),
      service('loop', '10.96.0.4'),
      service('foreign', '10.96.0.5', elsewhere),
      service('alias', '10.96.0.7'),
      service('alias-of-api', '10.96.0.8'),
      {
        ...service('kubernetes', '10.96.0.6'),
        namespace: 'default',
        hostname: 'kubernetes.default.svc.cluster.local',
      },
    ],
    workloads: [
      endpointOf(shop),
      {
        name: 'bank',
        namespace: 'test',
        serviceAccount: 'bank',
        addresses: [bankIp],
        tunnel: 'hbone',
        waypointIdentities: ['spiffe://cluster.local/ns/test/sa/waypoint'],
        waypointRequiredBy: 'AuthorizationPolicy bank/closed',
        services: ['bank', 'back-door'].map((name) =>
          memberOf(`bank/${name}.bank.svc.cluster.local`, 80),
        ),
      },
      endpointOf(plain, {}, {
        services: [
          ...['loop', 'foreign'].map((name) =>
            memberOf(`bank/${name}.bank.svc.cluster.local`, plain.port),
          ),
          memberOf('default/kubernetes.default.svc.cluster.local', plain.port),
        ],
      }),
      {
        name: 'alias',
        addresses: ['10.96.0.2'],
        tunnel: 'none',
        services: [memberOf('bank/alias.bank.svc.cluster.local', 80)],
      },
      {
        name: 'api-server',
        addresses: ['203.0.113.9'],
        tunnel: 'none',
        services: ['bank/alias-of-api.bank', 'default/kubernetes.default'].map((one) =>
          memberOf(`${one}.svc.cluster.local`, 6443),
        ),
      },
    ],
  }); // prettier-ignore
  node = await startNodeProxy(world.ca, bankIp, bank, 'bank');
});
afterAll(async () => {
  await world.close();
  await node.close();
  for (const backend of [shop, bank, plain]) await backend.close();
});

let version = 0;

/** Has the waypoint ask there, and says what a client and the status are told, and the log. */
async function fetchFrom(uri: string) {
  version += 1;
  const upsert = {
    type: 'authentication',
    name: 'test/jwt',
    version: `k${version}` as SnapshotVersion,
    resource: anAuthentication({ keys: { kind: 'remote', uri, timeoutMs: 1_000 } }),
  };
  await world.tell({ more: [upsert as Upsert] });
  const payload = Buffer.from('{"iss":"me"}').toString('base64url');
  const authorization = `Bearer e30.${payload}.c2ln`;
  const { status, body } = await world.ask({ headers: { authorization } });
  expect(status).toBe(401);
  const log = world.log.filter((line) => line.includes(JSON.stringify(uri).slice(1, -1))).join();
  return { body: body.replace(uri, 'URI'), log };
}

type Policy = NonNullable<Nouns['policies']>[number];

async function holding<T>(policy: Policy, work: () => Promise<T>): Promise<T> {
  const scope = { kind: 'targeted', targets: [{ kind: 'service', service: bankKey }] };
  await world.tell({ policies: [{ name: 'closed', namespace: 'bank', scope, ...policy }] });
  try {
    return await work();
  } finally {
    await world.controller.push([], [{ type: 'policy', name: 'bank/closed' }]);
  }
}

const anything = { from: [], to: [], when: [] };
const when = (match: object) => [{ ...anything, when: [match] }];
const exact = (value: string) => ({ values: [{ kind: 'exact', value }], notValues: [] });
const coarse = 'no key set came from there (the log of the waypoint says more)';

describe('of a service whose policies this waypoint enforces', () => {
  test('keys are asked for where nothing forbids it', async () => {
    await fetchFrom('http://bank.bank:80/keys');
    expect(bank.requests.splice(0).map(({ url }) => url)).toEqual(['/keys']);
  });

  test.each<readonly [string, Policy]>([
    ['DENY of everything', { action: 'DENY', rules: [anything] }],
    [
      'DENY of the path',
      {
        action: 'DENY',
        rules: when({ kind: 'request', attribute: { kind: 'path' }, ...exact('/admin/reset') }),
      },
    ],
    [
      'DENY of GET',
      {
        action: 'DENY',
        rules: when({ kind: 'request', attribute: { kind: 'method' }, ...exact('GET') }),
      },
    ],
    [
      'ALLOW of another client',
      {
        action: 'ALLOW',
        rules: when({
          kind: 'connection',
          attribute: 'source.principal',
          ...exact('cluster.local/ns/test/sa/client'),
        }),
      },
    ],
    [
      'ALLOW of who has a token',
      {
        action: 'ALLOW',
        rules: when({
          kind: 'request',
          attribute: { kind: 'requestPrincipal' },
          values: [{ kind: 'presence' }],
          notValues: [],
        }),
      },
    ],
    ['CUSTOM', { action: 'CUSTOM', provider: 'gate', rules: [anything] }],
  ])('%s holds for the waypoint, too', async (_what, policy) => {
    // prettier-ignore
    const uri = `http://bank.bank:80/admin/reset?all=${version}`;
    const { body, log } = await holding(policy, () => fetchFrom(uri));
    expect(bank.requests).toEqual([]);
    expect(body).toBe(`Jwks cannot be had: keys not fetched from URI: ${coarse}`);
    expect(log).toContain('bank/closed');
  });

  test('ALLOW that names the waypoint lets it ask', async () => {
    const rules = when({
      kind: 'connection',
      attribute: 'source.principal',
      ...exact('cluster.local/ns/test/sa/waypoint'),
    });
    await holding({ action: 'ALLOW', rules }, () => fetchFrom('http://bank.bank/allowed'));
    expect(bank.requests.splice(0).map(({ url }) => url)).toEqual(['/allowed']);
  });

  test('a path of two readings is refused and said', async () => {
    const { body } = await fetchFrom('http://bank.bank/x/..%2fadmin');
    expect(body).toContain('its path must be written as /admin');
    expect(bank.requests).toEqual([]);
  });
});

test('a name that nobody judges by is no way around the policies of the pod', async () => {
  const { log } = await fetchFrom('http://back-door.bank/');
  expect(log).toContain('AuthorizationPolicy bank/closed holds for');
  expect(bank.requests).toEqual([]);
});

test('the API of Kubernetes is not asked, by any name, and the status says what to do', async () => {
  for (const host of [
    'kubernetes.default',
    'kubernetes.default.svc',
    'KUBERNETES.default.svc.cluster.local',
    'kubernetes.default.svc.cluster.local.',
  ]) {
    const { body } = await fetchFrom(`http://${host}/openid/v1/jwks`);
    expect(body).toContain('is the API of Kubernetes, which is not asked: write the keys');
  }
  const { body } = await fetchFrom('http://10.96.0.6/openid/v1/jwks');
  expect(body).toContain('may not be asked');
  expect(plain.requests).toEqual([]);
});

test('no endpoint of a service is asked on loopback, or around another waypoint', async () => {
  const { body } = await fetchFrom('http://loop.bank/');
  expect(body).toContain(`is at ${plain.ip}, which may not be asked`);
  const { log } = await fetchFrom('http://foreign.bank/');
  expect(log).toContain('is behind another waypoint');
  expect(plain.requests).toEqual([]);
});

test('another name for a virtual address, or for the API server, opens neither', async () => {
  expect((await fetchFrom('http://alias.bank/')).body).toContain(
    'is at 10.96.0.2, which is another',
  );
  const { body } = await fetchFrom('http://alias-of-api.bank/');
  expect(body).toContain("is at 203.0.113.9, which is another Service's");
});

test('what is told is the same, whatever is there', async () => {
  const told = new Set<string>();
  bank.server.removeAllListeners('request');
  for (const [path, status] of [
    ['/a', 403],
    ['/b', 200],
    ['/c', 302],
  ] as const) {
    bank.server.once('request', (_request, response) => {
      response.writeHead(status, { location: 'http://127.0.0.1/' }).end('no JSON');
    });
    told.add((await fetchFrom(`http://bank.bank${path}`)).body);
  }
  bank.server.once('request', (request) => request.socket.destroy());
  told.add((await fetchFrom('http://bank.bank/d')).body);
  told.add((await fetchFrom('http://bank.bank:81/')).body);
  told.add((await fetchFrom('http://loop.bank:81/')).body);
  expect([...told]).toEqual([`Jwks cannot be had: keys not fetched from URI: ${coarse}`]);
  const { log } = await fetchFrom('http://bank.bank/a');
  expect(log).toContain('HTTP 403');
});

test.each(['10.1.2.3', '172.16.0.1', '192.168.1.1', '169.254.169.254', '[fd00::1]', '[2002:7f00:1::]', '127.1'])(
  'the address %s is refused, whatever is there',
  async (host) => {
    const { body } = await fetchFrom(`http://${host}/`);
    expect(body).toContain('which may not be asked: name a Service, or have the range allowed (JWKS_ALLOWED_CIDRS)');
  },
); // prettier-ignore

import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { badInput } from '../support/bad-input.ts';
import type { Asked, MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';

/** The rows of acceptance.md's mesh table that concern waypoints, by their names, in a whole cluster. */
let mesh: MeshCluster;
const reviews = 'http://reviews.shop:8080/';

beforeAll(async () => {
  mesh = await startMesh();
  const { cluster } = mesh;
  for (const namespace of ['shop', 'clients']) {
    await cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
  }
  const made = await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--enroll-namespace', '--wait');
  expect(made).toEqual({
    status: 0,
    text: expect.stringContaining('waypoint shop/waypoint serves'),
  });
  await passed();
}, 120_000);

afterEach(async () => {
  await mesh.clean();
});

afterAll(async () => {
  await mesh.close();
}, 60_000);

/** Requests pass the waypoint: the endpoint sees the waypoint's address. */
async function passed(): Promise<void> {
  await until(async () => {
    const { ips } = await mesh.pod('shop', {
      'gateway.networking.k8s.io/gateway-name': 'waypoint',
    });
    const [answer] = await mesh.ask(reviews);
    return ips.some((ip) => answer?.body.includes(`"caller":"${ip}"`)) || undefined;
  }, 30_000);
}

async function becomes(
  holds: (answers: readonly Asked[]) => boolean,
  options: readonly string[] = [],
  url = `${reviews}?n=[1-10]`,
): Promise<readonly Asked[]> {
  return until(async () => {
    const answers = await mesh.ask(url, options);
    return answers.length > 0 && holds(answers) ? answers : undefined;
  });
}

function resource(
  apiVersion: string,
  kind: string,
  name: string,
  spec: object,
  namespace = 'shop',
) {
  return { apiVersion, kind, metadata: { name, namespace }, spec };
}

const subsets = resource('networking.istio.io/v1', 'DestinationRule', 'reviews', {
  host: 'reviews',
  subsets: ['v1', 'v2'].map((name) => ({ name, labels: { version: name } })),
});

function routes(...http: object[]) {
  return resource('networking.istio.io/v1', 'VirtualService', 'reviews', {
    hosts: ['reviews'],
    http,
  });
}

function to(subset: string, more: object = {}) {
  return { destination: { host: 'reviews', subset }, ...more };
}

const target = [{ group: '', kind: 'Service', name: 'reviews' }];

function policy(name: string, spec: object) {
  return resource('security.istio.io/v1', 'AuthorizationPolicy', name, {
    targetRefs: target,
    ...spec,
  });
}

test('TestServerSideLB: requests of one connection are spread', async () => {
  const answers = await mesh.ask(`${reviews}?n=[1-40]`);
  expect(new Set(answers.map(({ version }) => version))).toEqual(new Set(['v1', 'v2']));
});

test('TestServerRouting: a header is set and leads to a subset', async () => {
  await mesh.apply(
    subsets,
    routes({
      route: [{ ...to('v2'), headers: { response: { set: { 'x-routed': 'yes' } } } }],
    }),
  );
  await becomes((answers) => answers.every(({ version }) => version === 'v2'));
  const [answer] = await mesh.ask(reviews, ['-i']);
  expect(answer?.body.toLowerCase()).toContain('x-routed: yes');
});

test('wildcard hosts cover the service, and header values are written for each request', async () => {
  const hosts = '*.shop.svc.cluster.local';
  const values = { 'x-asked': '%REQ(:method)% %REQ(x-who)% 100%%' };
  await mesh.apply(
    resource('networking.istio.io/v1', 'DestinationRule', 'all', { ...subsets.spec, host: hosts }),
    resource('networking.istio.io/v1', 'VirtualService', 'all', {
      hosts: [hosts],
      http: [{ route: [to('v2')], headers: { response: { set: values } } }],
    }),
  );
  await becomes((answers) => answers.every(({ version }) => version === 'v2'));
  const [answer] = await mesh.ask(reviews, ['-i', '-H', 'x-who: me']);
  expect(answer?.body.toLowerCase()).toMatch(/x-asked: get me 100%\s/);
});

test('a route of the Gateway of the waypoint holds for its services', async () => {
  const filters = [
    {
      type: 'ResponseHeaderModifier',
      responseHeaderModifier: { set: [{ name: 'x-routed', value: 'by the gateway' }] },
    },
  ];
  await mesh.apply(
    resource('gateway.networking.k8s.io/v1', 'HTTPRoute', 'all', {
      parentRefs: [{ name: 'waypoint' }],
      hostnames: ['reviews.shop.svc.cluster.local'],
      rules: [
        {
          matches: [{ path: { value: '/new' } }],
          filters,
          backendRefs: [{ name: 'reviews', port: 8080 }],
        },
      ],
    }),
  );
  const routed = ({ body }: Asked): boolean => body.includes('x-routed: by the gateway');
  await becomes((answers) => answers.every(routed), ['-i'], `${reviews}new?n=[1-4]`);
  const others = await mesh.ask(`${reviews}?n=[1-4]`, ['-i']);
  expect(others.map((one) => [one.status, routed(one)])).toEqual(others.map(() => [200, false]));
});

test('TestTrafficSplit: by weight', async () => {
  await mesh.apply(
    subsets,
    routes({ route: [to('v1', { weight: 80 }), to('v2', { weight: 20 })] }),
  );
  await becomes((answers) => answers.some(({ version }) => version === 'v1'));
  const answers = await mesh.ask(`${reviews}?n=[1-500]`);
  const share = answers.filter(({ version }) => version === 'v2').length / 500;
  expect(share).toBeGreaterThan(0.13);
  expect(share).toBeLessThan(0.27);
});

test('a header keeps a caller at one endpoint', async () => {
  await mesh.apply(
    resource('networking.istio.io/v1', 'DestinationRule', 'reviews', {
      host: 'reviews',
      trafficPolicy: { loadBalancer: { consistentHash: { httpHeaderName: 'x-user' } } },
    }),
  );
  await becomes(
    (answers) => new Set(answers.map(({ version }) => version)).size === 1,
    ['-H', 'x-user: ada'],
    `${reviews}?n=[1-30]`,
  );
  const users = await Promise.all(
    Array.from({ length: 12 }, async (_, index) => {
      const answers = await mesh.ask(`${reviews}?n=[1-5]`, ['-H', `x-user: user-${index}`]);
      return new Set(answers.map(({ version }) => version));
    }),
  );
  for (const versions of users) expect(versions.size).toBe(1);
  expect(new Set(users.flatMap((versions) => [...versions])).size).toBe(2);
});

test('TestAuthorizationServiceAttached: only the target, and only with the header', async () => {
  await mesh.apply(
    policy('attached', {
      action: 'DENY',
      rules: [{ when: [{ key: 'request.headers[x-bad]', values: ['yes'] }] }],
    }),
  );
  await becomes((answers) => answers.every(({ status }) => status === 403), ['-H', 'x-bad: yes']);
  expect((await mesh.ask(reviews))[0]?.status).toBe(200);
  const [other] = await mesh.ask('http://catalog.shop:8080/items', ['-H', 'x-bad: yes']);
  expect(other?.status).toBe(200);
});

test('TestAuthorizationL7: path, method, identity, header and wildcard', async () => {
  await mesh.apply(
    policy('l7', {
      rules: [
        {
          from: [{ source: { principals: ['cluster.local/ns/clients/sa/client'] } }],
          to: [{ operation: { methods: ['GET'], paths: ['/open*'] } }],
        },
        { to: [{ operation: { paths: ['/items/{*}/words'] } }] },
        { when: [{ key: 'request.headers[x-key]', values: ['k*'] }] },
      ],
    }),
  );
  const status = async (path: string, ...options: string[]): Promise<number> =>
    (await mesh.ask(`http://reviews.shop:8080${path}`, ['--path-as-is', ...options]))[0]?.status ??
    0;
  await becomes((answers) => answers.every(({ status: code }) => code === 403));
  expect(await status('/open')).toBe(200);
  expect(await status('/open/more')).toBe(200);
  expect(await status('/open', '-X', 'POST')).toBe(403);
  expect(await status('/items/lamp/words', '-X', 'POST')).toBe(200);
  expect(await status('/items/lamp/other')).toBe(403);
  expect(await status('/closed', '-H', 'x-key: k1')).toBe(200);
  expect(await status('/closed/..//open')).toBe(200);
  expect(await status('/open/../closed')).toBe(403);
  expect(await status('/open/%2e%2e/closed')).toBe(403);
});

test('TestWaypointWithInvalidBackend: 500, and nothing past it', async () => {
  await mesh.apply(
    resource('gateway.networking.k8s.io/v1', 'HTTPRoute', 'reviews', {
      parentRefs: [{ group: '', kind: 'Service', name: 'reviews', port: 8080 }],
      rules: [{ backendRefs: [{ name: 'nobody', port: 8080 }] }],
    }),
  );
  await becomes((answers) => answers.every(({ status }) => status === 500));
});

test.each(badInput)(
  'TestBadInput: $what',
  async ({ objects, refused, says, status, logged, options = [] }) => {
    const { cluster } = mesh;
    if (refused) {
      const denied =
        /admission webhook "validation\.ambit\.dev" denied the request: .* shop\/bad: spec\./;
      const refusal = await mesh.apply(objects[0]).then(() => 'applied', String);
      // A schema of the official definitions speaks before any webhook, and such an object cannot be there at all.
      if (mesh.kind === 'kubernetes' && /HTTP 422 .* is invalid: spec\./.test(refusal)) return;
      expect(refusal).toMatch(denied);
    }
    // What was there before the mesh is told on its status, and what it means stays closed.
    await (refused ? mesh.applyUnvalidated('shop', ...objects) : mesh.apply(...objects));
    let told = '';
    await until(async () => {
      told = JSON.stringify(((await cluster.get(objects[0])) as { status?: object }).status ?? {});
      return says.test(told) || undefined;
    }).catch(() => expect(told).toMatch(says));
    await becomes((answers) => answers.every((one) => one.status === status), options);
    const path = `/marked-${Math.random()}`;
    const [marked] = await mesh.ask(`http://reviews.shop:8080${path}`, options);
    expect(marked?.status).toBe(status);
    const { name } = await mesh.pod('shop', {
      'gateway.networking.k8s.io/gateway-name': 'waypoint',
    });
    const line = await until(async () =>
      (await cluster.logs('shop', name)).split('\n').find((one) => one.includes(path)),
    );
    expect(line.slice(line.indexOf(path) + path.length)).toMatch(
      new RegExp(`^ HTTP/1.1" ${logged.source}`),
    );
    const [other] = await mesh.ask('http://cart.shop:8080/cart', options);
    expect(other?.status).toBe(200);
  },
);

test('a TCPRoute to nobody lets nothing through', async () => {
  const answer = async (): Promise<string> => {
    const { name } = await mesh.pod('clients', { app: 'client' });
    const script =
      "const s=require('net').connect(9000,'inventory.shop');let t='';s.on('data',d=>{t+=d;s.end()});s.on('error',e=>{t=e.code});s.on('close',()=>console.log(t.trim()));s.write('STOCK lamp\\n')";
    return (await mesh.cluster.exec('clients', name, ['node', '-e', script])).output.trim();
  };
  expect(await answer()).toMatch(/^lamp 7 /);
  await mesh.apply(
    resource('gateway.networking.k8s.io/v1alpha2', 'TCPRoute', 'inventory', {
      parentRefs: [{ group: '', kind: 'Service', name: 'inventory', port: 9000 }],
      rules: [{ backendRefs: [{ name: 'nobody', port: 9000 }] }],
    }),
  );
  await until(async () => ((await answer()).startsWith('lamp') ? undefined : true));
});

test('TestWaypoint: list, status and delete by the command line', async () => {
  expect((await mesh.ctl('waypoint', 'list', '-n', 'shop')).text).toMatch(
    /NAME +REVISION +TRAFFIC +PROGRAMMED\nwaypoint +default +service +True/,
  );
  const status = await mesh.ctl('waypoint', 'status', '-n', 'shop');
  expect(status.status).toBe(0);
  expect(status.text).toContain('shop/reviews');
  expect(await mesh.ctl('waypoint', 'delete', 'nobody', '-n', 'shop')).toEqual({
    status: 1,
    text: 'ambitctl: there is no waypoint shop/nobody',
  });
  expect((await mesh.ctl('waypoint', 'apply', '-n', 'nowhere')).text).toBe(
    'ambitctl: there is no namespace nowhere',
  );
  expect((await mesh.ctl('waypoint', 'aply')).status).toBe(1);
});

test('TestBogusUseWaypoint: a missing waypoint refuses, and its owner may say otherwise', async () => {
  const service = (annotations: object) => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: 'bogus',
      namespace: 'shop',
      labels: { 'istio.io/use-waypoint': 'nobody' },
      annotations,
    },
    spec: {
      selector: { app: 'reviews' },
      ports: [{ name: 'http', port: 8080, targetPort: 'http' }],
    },
  });
  await mesh.apply(service({}));
  const answers = async (): Promise<number> =>
    (await mesh.ask('http://bogus.shop:8080/'))[0]?.status ?? 0;
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  expect(await answers()).toBe(0);
  await mesh.apply(service({ 'ambit.dev/without-waypoint': 'direct' }));
  await until(async () => ((await answers()) === 200 ? true : undefined));
});

test('TestCrossNamespaceWaypoint: a waypoint of another namespace, where it allows that', async () => {
  const gateway = (from: string) => ({
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { name: 'shared', namespace: 'clients' },
    spec: {
      gatewayClassName: 'istio-waypoint',
      listeners: [
        { name: 'mesh', port: 15008, protocol: 'HBONE', allowedRoutes: { namespaces: { from } } },
      ],
    },
  });
  await mesh.apply(gateway('All'), {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: 'elsewhere',
      namespace: 'shop',
      labels: { 'istio.io/use-waypoint': 'shared', 'istio.io/use-waypoint-namespace': 'clients' },
    },
    spec: {
      selector: { app: 'reviews' },
      ports: [{ name: 'http', port: 8080, targetPort: 'http' }],
    },
  });
  const { ips } = await mesh.pod('clients', { 'gateway.networking.k8s.io/gateway-name': 'shared' });
  const ask = async (): Promise<Asked | undefined> =>
    (await mesh.ask('http://elsewhere.shop:8080/'))[0];
  await until(async () => {
    const answer = await ask();
    return ips.some((ip) => answer?.body.includes(`"caller":"${ip}"`)) || undefined;
  });
  await mesh.apply(gateway('Same'));
  await until(async () => (((await ask())?.status ?? 0) === 0 ? true : undefined));
});

test('TestRemoveAddWaypoint: L7 stops and starts, and nobody notices', async () => {
  const { name } = await mesh.pod('clients', { app: 'client' });
  const load = mesh.cluster.exec('clients', name, [
    'sh',
    '-c',
    `for i in $(seq 1 150); do curl -s -m 5 -o /dev/null -w '%{http_code}\\n' ${reviews}; done | sort | uniq -c`,
  ]);
  await mesh.cluster.label('shop', 'istio.io/use-waypoint', null);
  await new Promise((resolve) => setTimeout(resolve, 700));
  await mesh.cluster.label('shop', 'istio.io/use-waypoint', 'waypoint');
  expect((await load).output.trim()).toBe('150 200');
  await passed();
});

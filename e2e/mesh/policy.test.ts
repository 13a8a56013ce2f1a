import { createSign, generateKeyPairSync } from 'node:crypto';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { directTo } from '../support/direct.ts';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';

/** The rows of acceptance.md's mesh table that concern who may do what, by their names, in a whole cluster. */
let mesh: MeshCluster;
const reviews = 'http://reviews.shop:8080/';
const echo = 'http://echo.shop:8080/';
const trust = 'cluster.local';
const waypoint = `spiffe://${trust}/ns/shop/sa/waypoint`;
const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const jwks = JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k' }] });

/** A program of one line as a Deployment with a Service, and a service account of its name. */
function program(name: string, namespace: string, script: string): object[] {
  const labels = { app: name };
  const metadata = { name, namespace, labels };
  const container = {
    name,
    image: 'ambit/samples',
    command: ['node', '-e', script],
    ports: [{ name: 'http', containerPort: 8080 }],
    readinessProbe: { httpGet: { path: '/', port: 'http' }, periodSeconds: 1 },
  };
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata,
      spec: { selector: labels, ports: [{ name: 'http', port: 8080, targetPort: 'http' }] },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: {
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: { serviceAccountName: name, containers: [container] },
        },
      },
    },
  ];
}

beforeAll(async () => {
  mesh = await startMesh();
  const { cluster } = mesh;
  for (const namespace of ['shop', 'clients']) {
    await cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
  }
  const echoes =
    "require('http').createServer((q,s)=>s.end(JSON.stringify(q.headers))).listen(8080,'::')";
  const keys = `require('http').createServer((q,s)=>s.end(${JSON.stringify(jwks)})).listen(8080,'::')`;
  for (const object of [...program('echo', 'shop', echoes), ...program('keys', 'clients', keys)]) {
    await cluster.apply(object);
  }
  expect(
    (await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--enroll-namespace', '--wait')).status,
  ).toBe(0);
  await mesh.pod('shop', { app: 'echo' });
  await mesh.pod('clients', { app: 'keys' });
  const { ips } = await mesh.pod('shop', { 'gateway.networking.k8s.io/gateway-name': 'waypoint' });
  await until(async () => {
    const [answer] = await mesh.ask(reviews);
    return ips.some((ip) => answer?.body.includes(`"caller":"${ip}"`)) || undefined;
  }, 30_000);
}, 120_000);

afterEach(async () => {
  await mesh.clean();
});

afterAll(async () => {
  await mesh.close();
}, 60_000);

function policy(name: string, spec: object, namespace = 'shop'): object {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace },
    spec,
  };
}

const principal = (...names: string[]) => [
  { from: [{ source: { principals: names.map((name) => `${trust}/ns/${name}`) } }] },
];
const gatewayTarget = { group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'waypoint' };
const reviewsTarget = { group: '', kind: 'Service', name: 'reviews' };
const ofReviews = { selector: { matchLabels: { app: 'reviews' } } };

/** The status that a caller gets; 0 where it gets no answer. */
async function status(
  url: string,
  options: readonly string[] = [],
  app = 'client',
): Promise<number> {
  const { name } = await mesh.pod('clients', { app });
  const command = [
    'curl',
    '-s',
    '-m',
    '10',
    '-o',
    '/dev/null',
    '-w',
    '%{http_code}',
    ...options,
    url,
  ];
  const { output } = await mesh.cluster.exec('clients', name, command);
  return Number(output.trim().slice(-3));
}

async function becomes(
  expected: number,
  url = reviews,
  options: readonly string[] = [],
  app = 'client',
) {
  let last = -1;
  try {
    await until(async () => {
      last = await status(url, options, app);
      return last === expected ? true : undefined;
    });
  } catch {
    expect({ url, options, app, status: last }).toEqual({ url, options, app, status: expected });
  }
}

test('TestAuthorizationL4: a node proxy lets in whom a policy names, also behind the waypoint', async () => {
  const keys = 'http://keys.clients:8080/';
  await mesh.apply(
    policy(
      'l4',
      { selector: { matchLabels: { app: 'keys' } }, rules: principal('clients/sa/stranger') },
      'clients',
    ),
  );
  await becomes(0, keys);
  await becomes(200, keys, [], 'stranger');
  // What the waypoint says of its client is believed, and the waypoint itself may be named.
  await mesh.apply(policy('behind', { ...ofReviews, rules: principal('clients/sa/client') }));
  await becomes(503, reviews, [], 'stranger');
  await becomes(200);
  await mesh.apply(
    policy('behind', { ...ofReviews, action: 'DENY', rules: principal('clients/sa/client') }),
  );
  await becomes(503);
  await becomes(200, reviews, [], 'stranger');
});

test('TestAuthorizationGateway: by targetRef of the waypoint, and of its class in the root namespace', async () => {
  const denied = (header: string) => ({
    action: 'DENY',
    rules: [{ when: [{ key: `request.headers[${header}]`, values: ['yes'] }] }],
  });
  const ofClass = { ...gatewayTarget, kind: 'GatewayClass', name: 'istio-waypoint' };
  await mesh.apply(
    policy('gateway', { targetRef: gatewayTarget, ...denied('x-gateway') }),
    policy('class', { targetRefs: [ofClass], ...denied('x-class') }, 'istio-system'),
  );
  const nobody = policy('nobody', { targetRefs: [ofClass], ...denied('x-nobody') });
  const onlyRoot = 'a GatewayClass may be named in the root namespace istio-system only';
  await expect(mesh.apply(nobody)).rejects.toThrow(onlyRoot);
  await mesh.applyUnvalidated('shop', nobody);
  await becomes(403, reviews, ['-H', 'x-gateway: yes']);
  await becomes(403, echo, ['-H', 'x-gateway: yes']);
  await becomes(403, reviews, ['-H', 'x-class: yes']);
  expect(await status(reviews, ['-H', 'x-nobody: yes'])).toBe(200);
  expect(await status(reviews)).toBe(200);
  const told = await until(async () => {
    const one = (await mesh.cluster.get(nobody)) as {
      status?: { conditions?: { message: string }[] };
    };
    return one.status?.conditions?.[0]?.message;
  });
  expect(told).toContain(onlyRoot);
});

test('TestAuthorizationWaypointDefaultDeny: nothing at the workload closes, the waypoint opens, nothing there closes', async () => {
  await mesh.apply(policy('workload', ofReviews));
  await becomes(503);
  await mesh.apply(policy('from-waypoint', { ...ofReviews, rules: principal('shop/sa/waypoint') }));
  await becomes(200);
  await mesh.apply(policy('waypoint', { targetRefs: [gatewayTarget] }));
  await becomes(403);
});

test('TestL7JWT: keys from a server in the mesh; a RequestAuthentication that nobody enforces lets nobody in', async () => {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const sign = (claims: object): readonly string[] => {
    const text = `${part({ alg: 'RS256', kid: 'k' })}.${part({ iss: 'me', exp: 4_000_000_000, ...claims })}`;
    const signature = createSign('RSA-SHA256').update(text).sign(privateKey, 'base64url');
    return ['-H', `authorization: Bearer ${text}.${signature}`];
  };
  const authentication = (spec: object) => ({
    apiVersion: 'security.istio.io/v1',
    kind: 'RequestAuthentication',
    metadata: { name: 'jwt', namespace: 'shop' },
    spec: {
      jwtRules: [{ issuer: 'me', jwksUri: 'http://keys.clients.svc.cluster.local:8080/keys' }],
      ...spec,
    },
  });
  const scope = { key: 'request.auth.claims[scope]', values: ['read'] };
  const from = [{ source: { requestPrincipals: ['me/sub-1'] } }];
  await mesh.apply(
    authentication({}),
    policy('jwt', { targetRefs: [reviewsTarget], rules: [{ from, when: [scope] }] }),
    // The key server is asked by the waypoint itself, over mutual TLS.
    policy(
      'keys',
      { selector: { matchLabels: { app: 'keys' } }, rules: principal('shop/sa/waypoint') },
      'clients',
    ),
  );
  const good = sign({ sub: 'sub-1', scope: 'write read' });
  await becomes(403);
  expect(await status(reviews, good)).toBe(403);
  await mesh.apply(authentication({ targetRefs: [reviewsTarget] }));
  await becomes(200, reviews, good);
  expect(await status(reviews)).toBe(403);
  expect(await status(reviews, sign({ sub: 'sub-1', scope: 'write' }))).toBe(403);
  expect(await status(reviews, sign({ sub: 'sub-2', scope: 'read' }))).toBe(403);
  expect(await status(reviews, sign({ sub: 'sub-1', scope: 'read', exp: 1 }))).toBe(401);
  expect(await status(reviews, ['-H', `${good[1] ?? ''}x`])).toBe(401);
});

test('TestWaypointXFCCClientIdentity: the annotation names the client, and nothing else does', async () => {
  const forged = ['-H', 'x-forwarded-client-cert: URI=spiffe://cluster.local/ns/x/sa/forged'];
  const annotate = (value: string) =>
    mesh.cluster.apply({
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'Gateway',
      metadata: {
        name: 'waypoint',
        namespace: 'shop',
        annotations: { 'ambient.istio.io/xfcc-include-client-identity': value },
      },
      spec: {
        gatewayClassName: 'istio-waypoint',
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      },
    });
  const seen = async (): Promise<unknown> => {
    const [answer] = await mesh.ask(echo, forged);
    const headers = JSON.parse(answer?.body ?? '{}') as Record<string, string>;
    return headers['x-forwarded-client-cert'];
  };
  expect(await seen()).toBeUndefined();
  await annotate('true');
  const xfcc = await until(seen);
  expect(xfcc).toBe(`By=${waypoint};URI=spiffe://${trust}/ns/clients/sa/client`);
  await annotate('false');
  await until(async () => ((await seen()) === undefined ? true : undefined));
});

test('TestDirect: hand-made HBONE to a waypoint gets to what it serves, and nowhere else', async () => {
  const { ip } = await mesh.pod('shop', { 'gateway.networking.k8s.io/gateway-name': 'waypoint' });
  const pods = {
    reviews: await mesh.pod('shop', { app: 'reviews' }),
    keys: await mesh.pod('clients', { app: 'keys' }),
  };
  const vip = async (name: string, namespace: string): Promise<string> => {
    const service = { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace } };
    return ((await mesh.cluster.get(service)) as { spec: { clusterIP: string } }).spec.clusterIP;
  };
  const direct = await directTo(mesh, {
    as: `spiffe://${trust}/ns/clients/sa/client`,
    ip,
    expected: waypoint,
  });
  const own = await vip('reviews', 'shop');
  expect(await direct.ask(`${own}:8080`)).toBe('HTTP/1.1 200 OK');
  expect(await direct.ask('reviews.shop.svc.cluster.local:8080')).toBe('HTTP/1.1 200 OK');
  for (const authority of [
    `${own}:8081`,
    'reviews.shop.svc.cluster.local:1',
    'keys.clients.svc.cluster.local:8080',
    `${await vip('keys', 'clients')}:8080`,
    `${pods.keys.ip}:8080`,
    `${pods.reviews.ip}:8080`,
    `${ip}:8080`,
    '127.0.0.1:8080',
    'localhost:8080',
    '169.254.169.254:80',
  ]) {
    expect([authority, await direct.ask(authority)]).toEqual([
      authority,
      expect.stringContaining('404'),
    ]);
  }
  for (const port of [15000, 15001, 15006, 15008, 15020, 15021]) {
    for (const host of [ip, own, '127.0.0.1']) {
      const refused = await direct.ask(`${host}:${port}`);
      expect([host, port, refused]).toEqual([host, port, expect.stringMatching(/40[04]/)]);
    }
  }
  direct.close();
}, 60_000);

test('past the waypoint: no identity but its own opens a workload for which an L7 policy holds', async () => {
  const { ip } = await mesh.pod('shop', { app: 'reviews' });
  const expected = `spiffe://${trust}/ns/shop/sa/reviews`;
  const as = async (name: string, claims?: string): Promise<string> => {
    const direct = await directTo(mesh, { as: `spiffe://${trust}/ns/${name}`, ip, expected });
    const headers: [string, string][] =
      claims === undefined ? [] : [['x-ambit-client-identity', `spiffe://${trust}/ns/${claims}`]];
    const answer = await direct.ask(`${ip}:8080`, '/', headers);
    direct.close();
    return answer;
  };
  // Without a policy there are only routes, and PeerAuthentication decides.
  expect(await as('clients/sa/client')).toBe('HTTP/1.1 200 OK');
  expect(await status(`http://${ip}:8080/`)).toBe(200);
  await mesh.apply(
    policy('l7', {
      targetRefs: [reviewsTarget],
      action: 'DENY',
      rules: [{ to: [{ operation: { methods: ['DELETE'] } }] }],
    }),
  );
  await becomes(0, `http://${ip}:8080/`);
  await becomes(200);
  for (const [name, claims] of [
    ['clients/sa/client', undefined],
    ['clients/sa/client', 'shop/sa/waypoint'],
    ['clients/sa/waypoint', 'clients/sa/client'],
    ['shop/sa/reviews', undefined],
    ['istio-system/sa/ztunnel', 'shop/sa/waypoint'],
  ] as const) {
    expect([name, claims, await as(name, claims)]).toEqual([
      name,
      claims,
      expect.stringContaining('401'),
    ]);
  }
  expect(await as('shop/sa/waypoint', 'clients/sa/client')).toBe('HTTP/1.1 200 OK');
  // A client cannot speak for another one; the waypoint can, and a policy at the workload hears it.
  await mesh.apply(policy('workload', { ...ofReviews, rules: principal('clients/sa/stranger') }));
  await becomes(503);
  expect(await as('shop/sa/waypoint', 'clients/sa/stranger')).toBe('HTTP/1.1 200 OK');
  expect(await as('shop/sa/waypoint', 'clients/sa/client')).toContain('401');
  expect(await as('clients/sa/client', 'clients/sa/stranger')).toContain('401');
}, 60_000);

const ofMethod = {
  action: 'DENY',
  rules: [{ to: [{ operation: { methods: ['DELETE'] } }] }],
};

function gateway(name: string, waypointFor: string): object {
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { name, namespace: 'shop', labels: { 'istio.io/waypoint-for': waypointFor } },
    spec: {
      gatewayClassName: 'istio-waypoint',
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
    },
  };
}

test('TestDirect: a waypoint for all takes a tunnel to a pod that is bound to it', async () => {
  const everything = { 'gateway.networking.k8s.io/gateway-name': 'everything' };
  const workload = program(
    'podded',
    'shop',
    "require('http').createServer((q,s)=>s.end('via '+q.headers['x-request-id'])).listen(8080,'::')",
  ).map((object) => JSON.parse(JSON.stringify(object)) as Record<string, never>);
  const deployment = workload[2] as unknown as {
    spec: { template: { metadata: { labels: Record<string, string> } } };
  };
  deployment.spec.template.metadata.labels['istio.io/use-waypoint'] = 'everything';
  await mesh.apply(gateway('everything', 'all'), ...workload);
  const { ip } = await mesh.pod('shop', everything);
  const pod = await mesh.pod('shop', { app: 'podded' });
  const direct = await directTo(mesh, {
    as: `spiffe://${trust}/ns/clients/sa/client`,
    ip,
    expected: `spiffe://${trust}/ns/shop/sa/everything`,
  });
  await until(async () =>
    (await direct.ask(`${pod.ip}:8080`)) === 'HTTP/1.1 200 OK' ? true : undefined,
  );
  const other = await mesh.pod('shop', { app: 'reviews' });
  expect(await direct.ask(`${other.ip}:8080`)).toContain('404');
  expect(await direct.ask(`${pod.ip}:15020`)).toContain('400');
  direct.close();
  // Whoever names the pod goes through its waypoint, too.
  await until(async () => {
    const [answer] = await mesh.ask(`http://${pod.ip}:8080/`);
    return /^via [0-9a-f-]{36}$/.test(answer?.body ?? '') || undefined;
  });
  await mesh.apply(
    policy('pods', {
      targetRefs: [{ ...gatewayTarget, name: 'everything' }],
      ...ofMethod,
    }),
  );
  await becomes(403, `http://${pod.ip}:8080/`, ['-X', 'DELETE']);
  expect(await status(`http://${pod.ip}:8080/`)).toBe(200);
}, 60_000);

test('a waypoint that is not ready refuses; ambit.dev/without-waypoint=direct goes past it, where no L7 policy holds', async () => {
  const service = (annotations: object) => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: 'island',
      namespace: 'shop',
      labels: { 'istio.io/use-waypoint': 'lonely' },
      annotations,
    },
    spec: { selector: { app: 'echo' }, ports: [{ name: 'http', port: 8080, targetPort: 'http' }] },
  });
  const island = 'http://island.shop:8080/';
  await mesh.apply(gateway('lonely', 'service'), service({}));
  await mesh.pod('shop', { 'gateway.networking.k8s.io/gateway-name': 'lonely' });
  await becomes(200, island);
  await mesh.cluster.apply({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'lonely', namespace: 'shop' },
    spec: { replicas: 0 },
  });
  await becomes(0, island);
  await mesh.apply(service({ 'ambit.dev/without-waypoint': 'direct' }));
  await becomes(200, island);
  await mesh.apply(
    policy('island', { targetRefs: [{ group: '', kind: 'Service', name: 'island' }], ...ofMethod }),
  );
  await becomes(0, island);
}, 60_000);

test('ambit.dev/bypass-waypoint=allow opens the way past the waypoint; without it the policy closes it', async () => {
  const { ip } = await mesh.pod('shop', { app: 'reviews' });
  const pod = `http://${ip}:8080/`;
  const annotate = (value?: string) =>
    mesh.cluster.apply({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: {
        name: 'shop',
        annotations: value === undefined ? {} : { 'ambit.dev/bypass-waypoint': value },
      },
    });
  const required = async (): Promise<string | undefined> => {
    const one = (await mesh.cluster.get({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'reviews', namespace: 'shop' },
    })) as { status?: { conditions?: { type: string; status: string; message: string }[] } };
    const found = one.status?.conditions?.find(({ type }) => type === 'ambit.dev/WaypointRequired');
    return found?.status === 'True' ? found.message : undefined;
  };
  await mesh.apply(policy('l7', { targetRefs: [reviewsTarget], ...ofMethod }));
  await becomes(0, pod);
  expect(await until(required)).toContain('ambit.dev/bypass-waypoint=allow');
  await annotate('allow');
  await becomes(200, pod);
  expect(await status(pod, ['-X', 'DELETE'])).not.toBe(403);
  expect(await status(reviews, ['-X', 'DELETE'])).toBe(403);
  await annotate();
  await becomes(0, pod);
}, 60_000);

test('a policy of requests with a selector closes more at the workload, and its status says how to mean the waypoint', async () => {
  await mesh.apply(policy('selected', { ...ofReviews, ...ofMethod }));
  await becomes(503);
  const told = await until(async () => {
    const one = (await mesh.cluster.get(policy('selected', {}))) as {
      status?: { conditions?: { type: string; message: string }[] };
    };
    return one.status?.conditions?.find(({ type }) => type === 'ZtunnelAccepted')?.message;
  });
  expect(told).toMatch(/ztunnel sees no HTTP attributes .*methods.* spec\.targetRefs/);
  await mesh.apply(policy('selected', { targetRefs: [reviewsTarget], ...ofMethod }));
  await becomes(200);
  expect(await status(reviews, ['-X', 'DELETE'])).toBe(403);
});

test('dry run and AUDIT at a node proxy are counted by name', async () => {
  const selected = { selector: { matchLabels: { app: 'keys' } } };
  const rehearsed = policy(
    'rehearsed',
    { ...selected, action: 'DENY', rules: principal('clients/sa/client') },
    'clients',
  ) as { metadata: object };
  await mesh.apply(
    {
      ...rehearsed,
      metadata: { ...rehearsed.metadata, annotations: { 'istio.io/dry-run': 'true' } },
    },
    policy('watched', { ...selected, action: 'AUDIT', rules: [{}] }, 'clients'),
  );
  const { node } = await mesh.pod('clients', { app: 'keys' });
  await until(async () => {
    expect(await status('http://keys.clients:8080/')).toBe(200);
    const proxies = await mesh.cluster.pods('istio-system');
    const proxy = proxies.find((one) => one.node === node && one.labels.get('app') === 'ztunnel');
    const text = await mesh.cluster.read(proxy?.ip ?? '', 15020, '/stats/prometheus');
    const counted = [
      'ambit_dry_run_total{policy="clients/rehearsed",would="deny"} ',
      'ambit_audited_total{policy="clients/watched"} ',
    ];
    return counted.every((one) => text.includes(one)) || undefined;
  });
});

import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { objectsOf } from '../support/objects.ts';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';

/** Authorizers of one's own and rate limits in a whole cluster, by the examples of their pages and the samples. */
let mesh: MeshCluster;
const catalog = 'http://catalog.shop:8080';
const gate = objectsOf('samples/gate/gate.yaml');
const authorization = objectsOf('docs/external-authorization.md') as {
  kind: string;
  spec: object;
}[];

beforeAll(async () => {
  mesh = await startMesh();
  for (const namespace of ['shop', 'clients'])
    await mesh.cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
  const made = await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--enroll-namespace', '--wait');
  expect(made.status).toBe(0);
  for (const object of gate) await mesh.cluster.apply(object);
  await mesh.pod('security', { app: 'gate' });
}, 120_000);

afterEach(async () => {
  await mesh.clean();
});

afterAll(async () => {
  await mesh.close();
}, 60_000);

interface Answer {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

async function ask(path: string, options: readonly string[] = [], app = 'client'): Promise<Answer> {
  const { name } = await mesh.pod('clients', { app });
  const command = ['curl', '-s', '-i', '-m', '10', ...options, `${catalog}${path}`];
  const { output } = await mesh.cluster.exec('clients', name, command);
  const [head = '', ...rest] = output.split('\r\n\r\n');
  const [first = '', ...lines] = head.split('\r\n');
  const headers = lines.map((line): [string, string] => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  });
  return {
    status: Number(first.split(' ')[1]),
    headers: new Map(headers),
    body: rest.join('\r\n\r\n'),
  };
}

async function becomes(status: number, path: string, options: readonly string[] = []) {
  return until(async () => {
    const answer = await ask(path, options);
    return answer.status === status ? answer : undefined;
  });
}

const alice = ['-H', 'x-user: alice'];
const mallory = ['-H', 'x-user: mallory'];

async function gateSaid(): Promise<string> {
  const { name } = await mesh.pod('security', { app: 'gate' });
  return mesh.cluster.logs('security', name);
}

test('TestAuthorizationCustom: an authorizer of the mesh is asked over HTTP, by the waypoint alone', async () => {
  await mesh.apply(...authorization);
  const refused = await becomes(401, '/admin/x', mallory);
  expect(refused.body).toBe('the gate does not know you\n');
  expect((await ask('/admin/x', alice)).status).toBe(200);
  expect((await ask('/admin/x')).status).toBe(401);
  // What the policy does not match is not asked about.
  expect((await ask('/')).status).toBe(200);
  expect(await gateSaid()).toMatch(/^http GET \/admin\/x alice true$/m);
  expect(await gateSaid()).not.toMatch(/ \/ /);
  // Others than the waypoint are turned away, so it must have come with its identity, in a tunnel.
  const { name } = await mesh.pod('clients', { app: 'client' });
  const straight = ['curl', '-s', '-m', '5', 'http://gate.security:8000/admin/x'];
  expect((await mesh.cluster.exec('clients', name, straight)).code).not.toBe(0);
});

test('TestAuthorizationCustom: over gRPC, with the identity of the client', async () => {
  await mesh.apply(
    ...authorization.map((object) =>
      object.kind === 'AuthorizationPolicy'
        ? { ...object, spec: { ...object.spec, provider: { name: 'gate-grpc' } } }
        : object,
    ),
  );
  expect((await becomes(401, '/admin/y', mallory)).body).toBe('the gate does not know you\n');
  expect((await ask('/admin/y', alice)).status).toBe(200);
  expect(await gateSaid()).toMatch(
    /^grpc GET \/admin\/y alice of spiffe:\/\/cluster.local\/ns\/clients\/sa\/client true$/m,
  );
});

test('TestAuthorizationCustom: an authorizer that is gone lets nobody in', async () => {
  await mesh.apply(...authorization);
  await becomes(401, '/admin/z', mallory);
  const deployment = gate.find((object) => (object as { kind: string }).kind === 'Deployment');
  await mesh.cluster.remove(deployment ?? {});
  await becomes(403, '/admin/z', alice);
  expect((await ask('/')).status).toBe(200);
  await mesh.cluster.apply(deployment ?? {});
  await becomes(200, '/admin/z', alice);
}, 60_000);

interface Told {
  readonly status?: {
    readonly conditions?: readonly { type: string; status: string; message: string }[];
  };
}

async function accepted(object: object, status: string): Promise<string> {
  return until(async () => {
    const told = (await mesh.cluster.get(object)) as Told;
    const found = told.status?.conditions?.find(({ type }) => type === 'Accepted');
    return found?.status === status ? found.message : undefined;
  });
}

/** How many of so many requests at once get which status. */
async function burst(count: number, app = 'client'): Promise<ReadonlyMap<string, number>> {
  const { name } = await mesh.pod('clients', { app });
  const { output } = await mesh.cluster.exec('clients', name, [
    ...['curl', '-s', '-o', '/dev/null', '-w', '%{http_code}\\n', `${catalog}/?n=[1-${count}]`],
  ]);
  const counts = new Map<string, number>();
  for (const line of output.trim().split('\n')) counts.set(line, (counts.get(line) ?? 0) + 1);
  return counts;
}

test.each([
  ['of its page', 'docs/rate-limits.md', 20],
  ['of the samples', 'samples/shop/policy/rate-limit.yaml', 5],
])('TestRateLimit: the policy %s holds for each client on its own', async (_which, path, most) => {
  const objects = objectsOf(path);
  await mesh.apply(...objects);
  for (const object of objects) await accepted(object, 'True');
  const over = await until(async () => {
    await burst(most * 2);
    const answer = await ask('/');
    return answer.status === 429 ? answer : undefined;
  });
  expect(Number(over.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(over.headers.get('x-ratelimit-remaining')).toBe('0');
  // Another client has its own, and no more than that.
  const counts = await burst(most * 2, 'stranger');
  expect(counts.get('200') ?? 0).toBeGreaterThanOrEqual(most);
  expect(counts.get('429') ?? 0).toBeGreaterThan(0);
  expect((counts.get('200') ?? 0) + (counts.get('429') ?? 0)).toBe(most * 2);
});

test('TestRateLimit: a limit that cannot be understood is refused; where it is there all the same it is told and limits nobody', async () => {
  const broken = {
    apiVersion: 'ambit.dev/v1alpha1',
    kind: 'RateLimitPolicy',
    metadata: { name: 'broken', namespace: 'shop' },
    spec: {
      targetRefs: [{ kind: 'Service', name: 'catalog' }],
      limits: [{ name: 'one', requests: 1, per: '1m', match: { paths: ['a*b'] } }],
    },
  };
  await expect(mesh.apply(broken)).rejects.toThrow(/RateLimitPolicy shop\/broken: .*paths/);
  await mesh.applyUnvalidated('shop', broken);
  expect(await accepted(broken, 'False')).toContain('paths');
  expect((await burst(5)).get('200')).toBe(5);
});

test('discoverySelectors: a namespace that is no longer selected fails closed, and comes back with its label', async () => {
  const matchExpressions = [{ key: 'mesh', operator: 'NotIn', values: ['off'] }];
  await mesh.apply({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'istio', namespace: 'istio-system' },
    data: { mesh: JSON.stringify({ discoverySelectors: [{ matchExpressions }] }) },
  });
  await becomes(200, '/');
  await mesh.cluster.label('clients', 'mesh', 'off');
  await until(async () => Number.isNaN((await ask('/')).status) || undefined);
  expect((await ask('/')).status).toBeNaN();
  await mesh.cluster.label('clients', 'mesh', 'on');
  await becomes(200, '/');
}, 60_000);

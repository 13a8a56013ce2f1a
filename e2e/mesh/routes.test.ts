import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { makeTestCa } from '@ambit/testkit';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';
import { echoServer, steadyClient, tlsClient, tlsServer } from '../support/route-programs.ts';

/** Routes of connections, and changes of routes under load, in a whole cluster with a waypoint for the shop. */
let mesh: MeshCluster;

beforeAll(async () => {
  mesh = await startMesh();
  const { cluster } = mesh;
  for (const namespace of ['shop', 'clients']) {
    await cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
  }
  const made = await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--enroll-namespace', '--wait');
  expect(made.status).toBe(0);
}, 120_000);

afterEach(async () => {
  await mesh.clean();
});

afterAll(async () => {
  await mesh.close();
}, 60_000);

function resource(apiVersion: string, kind: string, name: string, spec: object): object {
  return { apiVersion, kind, metadata: { name, namespace: 'shop' }, spec };
}

/** One version of a program, as a Deployment behind a Service of its name. */
function program(
  name: string,
  script: string,
  port: number,
  env: Record<string, string>,
): object[] {
  const labels = { app: name };
  return [
    resource('v1', 'Service', name, {
      selector: labels,
      ports: [{ name: env['PORT_NAME'] ?? 'tcp', port, targetPort: port }],
    }),
    resource('apps/v1', 'Deployment', name, {
      replicas: 1,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          terminationGracePeriodSeconds: 1,
          containers: [
            {
              name,
              image: 'ambit/samples',
              command: ['node', '-e', script],
              env: Object.entries(env).map(([key, value]) => ({ name: key, value })),
              readinessProbe: { tcpSocket: { port }, periodSeconds: 1 },
            },
          ],
        },
      },
    }),
  ];
}

async function run(...command: string[]): Promise<string> {
  const { name } = await mesh.pod('clients', { app: 'client' });
  return (await mesh.cluster.exec('clients', name, command)).output.trim();
}

function share(text: string, of: string): number {
  const lines = text.split('\n');
  return lines.filter((line) => line === of).length / lines.length;
}

const parent = (name: string, port: number): object => ({ group: '', kind: 'Service', name, port });

async function becomesAccepted(apiVersion: string, kind: string, name: string): Promise<void> {
  await until(async () => {
    const found = await mesh.get(
      `/apis/${apiVersion}/namespaces/shop/${kind.toLowerCase()}s/${name}`,
    );
    return JSON.stringify(found).includes('"reason":"Accepted"') || undefined;
  });
}

test('TestTLSRoute: by the server name, by weight, and nobody for another name', async () => {
  const ca = await makeTestCa();
  const { chain, privateKey } = await ca.issue('spiffe://example/server');
  const env = (version: string): Record<string, string> => ({
    VERSION: version,
    CERT: chain.join(''),
    KEY: privateKey,
    PORT_NAME: 'tls',
  });
  await mesh.apply(
    ...program('secure', tlsServer, 8443, env('one')),
    ...program('secure-two', tlsServer, 8443, env('two')),
    resource('gateway.networking.k8s.io/v1alpha3', 'TLSRoute', 'secure', {
      parentRefs: [parent('secure', 8443)],
      hostnames: ['*.split.example'],
      rules: [
        {
          backendRefs: [
            { name: 'secure', port: 8443, weight: 1 },
            { name: 'secure-two', port: 8443, weight: 1 },
          ],
        },
      ],
    }),
    resource('gateway.networking.k8s.io/v1', 'TLSRoute', 'two', {
      parentRefs: [parent('secure', 8443)],
      hostnames: ['two.example'],
      rules: [{ backendRefs: [{ name: 'secure-two', port: 8443 }] }],
    }),
  );
  await mesh.pod('shop', { app: 'secure' });
  await mesh.pod('shop', { app: 'secure-two' });
  const ask = (name: string, count: number): Promise<string> =>
    run('node', '-e', tlsClient, 'secure.shop', '8443', name, String(count));
  await until(async () => (await ask('two.example', 5)) === 'two\ntwo\ntwo\ntwo\ntwo' || undefined);
  const split = share(await ask('a.split.example', 100), 'two');
  expect(split).toBeGreaterThan(0.25);
  expect(split).toBeLessThan(0.75);
  expect(await ask('other.example', 3)).toBe('nobody\nnobody\nnobody');
  await becomesAccepted('gateway.networking.k8s.io/v1', 'TLSRoute', 'two');
}, 90_000);

test('TestTCPRoute: by weight, the same in every version that is served', async () => {
  const server = `require('net').createServer((s)=>{s.on('error',()=>{});s.end(process.env.VERSION)}).listen(9100,'::')`;
  await mesh.apply(
    ...program('lines', server, 9100, { VERSION: 'one' }),
    ...program('lines-two', server, 9100, { VERSION: 'two' }),
  );
  await mesh.pod('shop', { app: 'lines' });
  await mesh.pod('shop', { app: 'lines-two' });
  const client = `(async()=>{for(let i=0;i<+process.argv[1];i++)await new Promise((r)=>{let t='';const s=require('net').connect(9100,'lines.shop');s.on('data',(d)=>t+=d);s.on('error',()=>{});s.on('close',()=>{console.log(t||'nobody');r()})})})()`;
  const ask = (count: number): Promise<string> => run('node', '-e', client, String(count));
  await until(async () => (await ask(3)) === 'one\none\none' || undefined);
  for (const version of ['v1alpha2', 'v1']) {
    const route = resource(`gateway.networking.k8s.io/${version}`, 'TCPRoute', 'lines', {
      parentRefs: [parent('lines', 9100)],
      rules: [
        {
          backendRefs: [
            { name: 'lines', port: 9100, weight: 80 },
            { name: 'lines-two', port: 9100, weight: 20 },
          ],
        },
      ],
    });
    await mesh.apply(route);
    await until(async () => (await ask(20)).includes('two') || undefined);
    const two = share(await ask(300), 'two');
    expect(two).toBeGreaterThan(0.08);
    expect(two).toBeLessThan(0.35);
    await becomesAccepted(`gateway.networking.k8s.io/${version}`, 'TCPRoute', 'lines');
    await mesh.remove(route);
    await until(async () => (await ask(12)) === Array(12).fill('one').join('\n') || undefined);
  }
}, 120_000);

test('routes change a hundred times under load, and no request and no stream is lost', async () => {
  await mesh.apply(...program('echo', echoServer, 8090, { PORT_NAME: 'grpc' }));
  await mesh.pod('shop', { app: 'echo' });
  const destinations = ['v1', 'v2'].map((subset) => ({
    destination: { host: 'reviews', subset },
  }));
  const subsets = resource('networking.istio.io/v1', 'DestinationRule', 'reviews', {
    host: 'reviews',
    subsets: ['v1', 'v2'].map((name) => ({ name, labels: { version: name } })),
  });
  const changes = (index: number): object[] => [
    resource('networking.istio.io/v1', 'VirtualService', 'reviews', {
      hosts: ['reviews'],
      http: [
        { match: [{ uri: { prefix: `/never-${index}` } }], route: [destinations[0]] },
        { route: destinations.map((one, at) => ({ ...one, weight: at === index % 2 ? 90 : 10 })) },
      ],
    }),
    resource('networking.istio.io/v1', 'VirtualService', 'echo', {
      hosts: ['echo'],
      http: [
        {
          match: [{ uri: { prefix: '/' } }],
          route: [{ destination: { host: 'echo' } }],
          headers: { response: { set: { 'x-change': String(index) } } },
        },
      ],
    }),
  ];
  await mesh.apply(subsets, ...changes(0));
  await until(async () => {
    const [answer] = await mesh.ask('http://reviews.shop:8080/');
    return answer?.status === 200 || undefined;
  });
  const load = run(
    'node',
    '-e',
    steadyClient,
    'http://reviews.shop:8080',
    'http://echo.shop:8090',
    '25000',
  );
  for (let index = 1; index <= 100; index += 1) {
    for (const change of changes(index)) await mesh.cluster.apply(change);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const told = JSON.parse((await load).split('\n').at(-1) ?? '{}') as Record<string, number>;
  expect(told).toMatchObject({
    http1Failed: 0,
    http2Failed: 0,
    streamsFailed: 0,
    connectionsLost: 0,
  });
  expect(told['http1']).toBeGreaterThan(300);
  expect(told['http2']).toBeGreaterThan(300);
  expect(told['streams']).toBeGreaterThan(20);
  expect(told['seenChanges']).toBeGreaterThan(20);
}, 180_000);

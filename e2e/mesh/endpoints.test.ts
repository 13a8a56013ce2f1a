import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import type { TestCa } from '@ambit/testkit';
import { makeTestCa } from '@ambit/testkit';
import { meshCa } from '../support/direct.ts';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';

/** TestDestinationRule of acceptance.md where endpoints want TLS, the PROXY protocol or HTTP/2. */
let mesh: MeshCluster;
let ca: TestCa;

/**
 * 8443 asks for a client's certificate, 8444 does not, 8080 wants the PROXY protocol, 8081 speaks HTTP/2 alone.
 */
const server = `
const tls = require('node:tls'), net = require('node:net'), http2 = require('node:http2');
const answer = (socket, said) => {
  const body = JSON.stringify(said);
  socket.write('HTTP/1.1 200 OK\\r\\ncontent-length: ' + body.length + '\\r\\n\\r\\n' + body);
};
const { CERT: cert, KEY: key, ROOT: ca } = process.env;
for (const [port, requestCert] of [[8443, true], [8444, false]]) {
  tls.createServer({ cert, key, ca, requestCert, rejectUnauthorized: requestCert }, (socket) => {
    socket.on('error', () => {});
    const peer = requestCert ? socket.getPeerX509Certificate().subjectAltName : '';
    socket.on('data', () => answer(socket, { sni: socket.servername, peer }));
  }).listen(port, '::');
}
net.createServer((socket) => {
  let header;
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    const text = chunk.toString('latin1');
    if (header === undefined) header = text.slice(0, text.indexOf('\\r\\n'));
    if (text.includes('HTTP/1.1')) answer(socket, { header });
  });
}).listen(8080, '::');
const two = http2.createServer();
two.on('stream', (stream) => { stream.respond({ ':status': 200 }); stream.end('spoken in HTTP/2'); });
two.listen(8081, '::');
process.on('SIGTERM', () => process.exit(0));
`;

const meta = (name: string) => ({ name, namespace: 'shop' });

function destinationRule(name: string, spec: object) {
  return {
    apiVersion: 'networking.istio.io/v1',
    kind: 'DestinationRule',
    metadata: meta(name),
    spec: { host: name, ...spec },
  };
}

function service(name: string, app: string, ports: readonly object[]) {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: meta(name),
    spec: { selector: { app }, ports },
  };
}

function secret(name: string, data: Readonly<Record<string, string>>) {
  return { apiVersion: 'v1', kind: 'Secret', metadata: meta(name), stringData: data };
}

/** The server with a certificate of an authority. */
async function deployment(
  name: string,
  issuer: TestCa,
  names: readonly string[],
  labels: object = {},
): Promise<object> {
  const { chain, privateKey } = await issuer.issue('spiffe://cluster.local/ns/shop/sa/default', {
    names: names.map((value) => ({ type: 'dns', value })),
  });
  const env = { CERT: chain.join('\n'), KEY: privateKey, ROOT: issuer.rootPem };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: meta(name),
    spec: {
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name, ...labels } },
        spec: {
          containers: [
            {
              name,
              image: 'ambit/samples',
              command: ['node', '-e', server],
              env: Object.entries(env).map(([key, value]) => ({ name: key, value })),
              readinessProbe: { tcpSocket: { port: 8443 }, periodSeconds: 1 },
            },
          ],
        },
      },
    },
  };
}

beforeAll(async () => {
  ca = await makeTestCa();
  mesh = await startMesh();
  for (const namespace of ['shop', 'clients']) {
    await mesh.cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
  }
  await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--enroll-namespace', '--wait');
  // One has certificates of its own, the other is outside of the mesh with one of the mesh's.
  for (const object of [
    await deployment('partner', ca, ['partner.test']),
    await deployment('legacy', await meshCa(mesh), [], { 'istio.io/dataplane-mode': 'none' }),
    service('partner', 'partner', [
      { name: 'http', port: 80, targetPort: 8443 },
      { name: 'http-two', port: 81, targetPort: 8081 },
      { name: 'http-simple', port: 82, targetPort: 8444 },
    ]),
    service('proxied', 'partner', [{ name: 'http', port: 80, targetPort: 8080 }]),
    service('legacy', 'legacy', [{ name: 'http', port: 80, targetPort: 8443 }]),
  ])
    await mesh.cluster.apply(object);
  for (const app of ['partner', 'legacy']) await mesh.pod('shop', { app });
}, 120_000);

afterEach(async () => {
  await mesh.clean();
});

afterAll(async () => {
  await mesh.close();
}, 60_000);

async function answers(url: string, what: RegExp): Promise<string> {
  return until(async () => {
    const [answer] = await mesh.ask(url);
    return answer?.status === 200 && what.test(answer.body) ? answer.body : undefined;
  });
}

async function accepted(name: string, status: string): Promise<string> {
  const path = `/apis/networking.istio.io/v1/namespaces/shop/destinationrules/${name}`;
  return until(async () => {
    const { status: told } = (await mesh.get(path)) as {
      status?: { conditions?: { type: string; status: string; message: string }[] };
    };
    const found = told?.conditions?.find(({ type }) => type === 'Accepted');
    return found?.status === status ? found.message : undefined;
  });
}

test('TestDestinationRule: TLS with a Secret, mutual and not, and HTTP/2, each for a port of its own', async () => {
  const tls = { credentialName: 'partner', sni: 'partner.test' };
  await mesh.apply(
    destinationRule('partner', {
      trafficPolicy: {
        portLevelSettings: [
          { port: { number: 80 }, tls: { mode: 'MUTUAL', ...tls } },
          {
            port: { number: 81 },
            connectionPool: { http: { h2UpgradePolicy: 'UPGRADE' } },
          },
          { port: { number: 82 }, tls: { mode: 'SIMPLE', ...tls } },
        ],
      },
    }),
  );
  await answers('http://partner.shop:81/', /spoken in HTTP\/2/);
  // The Secret is not there: nothing goes out, least of all in plain text.
  expect(await accepted('partner', 'False')).toContain(
    'Secret shop/partner: there is no such Secret; requests are answered 503 until then',
  );
  for (const port of [80, 82])
    expect((await mesh.ask(`http://partner.shop:${port}/`))[0]?.status).toBe(503);
  const { chain, privateKey } = await ca.issue('spiffe://cluster.local/ns/shop/sa/partner-client');
  const pair = { 'tls.crt': chain.join('\n'), 'tls.key': privateKey };
  await mesh.apply(secret('partner', { ...pair, 'ca.crt': ca.rootPem }));
  expect(JSON.parse(await answers('http://partner.shop/', /sni/))).toEqual({
    sni: 'partner.test',
    peer: 'URI:spiffe://cluster.local/ns/shop/sa/partner-client',
  });
  expect(JSON.parse(await answers('http://partner.shop:82/', /sni/))).toEqual({
    sni: 'partner.test',
    peer: '',
  });
  await accepted('partner', 'True');
  // Roots that did not sign the partner: it is another one, and gets nothing.
  await mesh.apply(secret('partner', { ...pair, 'ca.crt': (await makeTestCa()).rootPem }));
  await until(async () => {
    const [answer] = await mesh.ask('http://partner.shop:82/');
    return answer?.status === 503 ? true : undefined;
  });
});

test('TestDestinationRule: ISTIO_MUTUAL, the waypoint shows its own certificate', async () => {
  await mesh.apply(destinationRule('legacy', { trafficPolicy: { tls: { mode: 'ISTIO_MUTUAL' } } }));
  expect(JSON.parse(await answers('http://legacy.shop/', /peer/))).toEqual({
    sni: 'outbound_.80_._.legacy.shop.svc.cluster.local',
    peer: 'URI:spiffe://cluster.local/ns/shop/sa/waypoint',
  });
  const subjectAltNames = ['spiffe://cluster.local/ns/shop/sa/another'];
  await mesh.apply(
    destinationRule('legacy', {
      trafficPolicy: { tls: { mode: 'ISTIO_MUTUAL', subjectAltNames } },
    }),
  );
  await until(async () => {
    const [answer] = await mesh.ask('http://legacy.shop/');
    return answer?.status === 503 ? true : undefined;
  });
});

test('TestDestinationRule: a subset', async () => {
  const host = 'reviews';
  await mesh.apply(
    destinationRule(host, {
      subsets: ['v1', 'v2'].map((name) => ({ name, labels: { version: name } })),
    }),
    {
      apiVersion: 'networking.istio.io/v1',
      kind: 'VirtualService',
      metadata: meta(host),
      spec: { hosts: [host], http: [{ route: [{ destination: { host, subset: 'v2' } }] }] },
    },
  );
  const versions = await until(async () => {
    const found = (await mesh.ask('http://reviews.shop:8080/?n=[1-30]')).map((one) => one.version);
    return found.includes('v1') ? undefined : found;
  });
  expect(versions).toEqual(Array.from({ length: 30 }, () => 'v2'));
});

test('TestDestinationRule: the PROXY protocol tells of the client', async () => {
  await mesh.apply(
    destinationRule('proxied', { trafficPolicy: { proxyProtocol: { version: 'V1' } } }),
  );
  const { ips } = await mesh.pod('clients', { app: 'client' });
  const { header } = JSON.parse(await answers('http://proxied.shop/', /PROXY/)) as {
    header: string;
  };
  expect(ips.some((ip) => header.includes(` ${ip} `))).toBe(true);
});

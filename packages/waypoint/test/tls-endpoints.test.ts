import { writeFileSync } from 'node:fs';
import { createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { defaultTraffic, noChanges } from '@ambit/api';
import { credential, simple, useEndpoints } from './endpoint-world.ts';
import { startNodeProxy } from './node-proxy.ts';
import { forward, route } from './nouns.ts';
import { shopKey } from './world.ts';

const endpoints = useEndpoints();
const { own, listening, tlsEndpoint, settings, partner, logged, later } = endpoints;

describe('TLS to endpoints', () => {
  test('SIMPLE: asks for the host of the request and verifies it', async () => {
    const endpoint = await tlsEndpoint(await partner(['shop.test']));
    await settings(endpoint, simple(), [credential({ ca: endpoints.partners.rootPem })]);
    expect(await endpoints.world.ask()).toMatchObject({ status: 200, body: 'secure' });
    expect(endpoint.heard).toEqual([
      { serverName: 'shop.test', offered: ['h2', 'http/1.1'], peer: undefined, version: 'TLSv1.3' },
    ]);
  });

  test('SIMPLE: requests for two hosts do not share a connection, those for one do', async () => {
    const endpoint = await tlsEndpoint(await partner(['shop.test', 'other.test']));
    await settings(endpoint, simple(), [credential({ ca: endpoints.partners.rootPem })]);
    for (const authority of ['shop.test', 'other.test:80', 'shop.test', 'other.test']) {
      expect((await endpoints.world.ask({ authority })).status).toBe(200);
    }
    expect(endpoint.heard.map(({ serverName }) => serverName)).toEqual(['shop.test', 'other.test']);
  });

  test('a chain of other roots, a certificate of another name: 503 with the reason, and no request sent', async () => {
    const endpoint = await tlsEndpoint(await partner(['elsewhere.test']));
    await settings(endpoint, simple(), [credential({ ca: endpoints.world.ca.rootPem })]);
    expect((await endpoints.world.ask()).status).toBe(503);
    await logged(/503 UF.*TLS_error: certificate verify failed: [A-Z_]+/);
    await settings(endpoint, simple(), [credential({ ca: endpoints.partners.rootPem })]);
    expect((await endpoints.world.ask()).status).toBe(503);
    await logged(/503 UF.*it is for none of shop\.test/);
    await settings(endpoint, simple({ subjectAltNames: ['other', 'elsewhere.test'] }));
    expect((await endpoints.world.ask()).status).toBe(200);
    await settings(endpoint, simple({ subjectAltNames: ['spiffe://partner.test/ns/a/sa/b'] }));
    expect((await endpoints.world.ask()).status).toBe(200);
    await settings(endpoint, simple({ subjectAltNames: ['spiffe://partner.test/ns/a/sa'] }));
    expect((await endpoints.world.ask()).status).toBe(503);
    await settings(endpoint, simple({ insecureSkipVerify: true, sni: 'any.test' }));
    expect((await endpoints.world.ask()).status).toBe(200);
    expect(endpoint.heard.at(-1)?.serverName).toBe('any.test');
  });

  test('a copy of a request asks for the name of the service, not for its own', async () => {
    const { chain, privateKey } = await partner(['shop.test']);
    const hosts: string[] = [];
    const endpoint = await tlsEndpoint({ chain, privateKey }, {}, (bytes) => {
      hosts.push(/^host: (.*)$/im.exec(bytes.toString())?.[1]?.trim() ?? '');
    });
    await settings(endpoint, simple(), [credential({ ca: endpoints.partners.rootPem })]);
    const target = { kind: 'service', service: shopKey, port: 80 };
    const all = { weight: 100, target, request: noChanges, response: noChanges };
    await endpoints.world.tell({
      routes: [
        {
          service: shopKey,
          http: [route({ action: forward(all), mirrors: [{ target, percentage: 100 }] })],
        },
      ],
    });
    later(() => endpoints.world.tell({ routes: [{ service: shopKey }] }));
    expect((await endpoints.world.ask()).status).toBe(200);
    const deadline = Date.now() + 2000;
    while (hosts.length < 2 && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(new Set(hosts)).toEqual(new Set(['shop.test', 'shop.test-shadow']));
    expect(new Set(endpoint.heard.map(({ serverName }) => serverName))).toEqual(
      new Set(['shop.test']),
    );
  });

  test('caCrl: a certificate that was revoked is refused, in a Secret and in a file', async () => {
    const revoked = await partner(['shop.test']);
    const crl = await endpoints.partners.revoke([revoked.chain[0] ?? '']);
    const [bad, good] = [
      await tlsEndpoint(revoked),
      await tlsEndpoint(await partner(['shop.test'])),
    ];
    await settings(bad, simple(), [credential({ ca: endpoints.partners.rootPem })]);
    expect((await endpoints.world.ask()).status).toBe(200);
    await settings(bad, simple(), [credential({ ca: endpoints.partners.rootPem, crl })]);
    expect((await endpoints.world.ask()).status).toBe(503);
    await logged(/503 UF.*TLS_error: certificate verify failed: CERT_REVOKED/);
    await settings(good, simple());
    expect((await endpoints.world.ask()).status).toBe(200);
    for (const [name, content] of Object.entries({
      'roots.pem': endpoints.partners.rootPem,
      'crl.pem': crl,
    }))
      writeFileSync(join(endpoints.folder, name), content);
    const source = {
      kind: 'files',
      ca: join(endpoints.folder, 'roots.pem'),
      crl: join(endpoints.folder, 'crl.pem'),
    };
    await settings(bad, simple({ source }));
    expect((await endpoints.world.ask()).status).toBe(503);
    await settings(good, simple({ source }));
    expect((await endpoints.world.ask()).status).toBe(200);
  });

  test('a name with a wildcard stands for one label', async () => {
    const endpoint = await tlsEndpoint(await partner(['*.partner.test']));
    await settings(endpoint, simple(), [credential({ ca: endpoints.partners.rootPem })]);
    expect((await endpoints.world.ask({ authority: 'a.partner.test' })).status).toBe(200);
    expect((await endpoints.world.ask({ authority: 'a.b.partner.test' })).status).toBe(503);
    expect((await endpoints.world.ask({ authority: 'partner.test' })).status).toBe(503);
  });

  test('a missing credential: 503 and nobody is called; one that goes ends what was made with it', async () => {
    const endpoint = await tlsEndpoint(await partner(['shop.test']));
    const absent = simple({ source: { kind: 'credential', name: 'test/absent' } });
    await settings(endpoint, absent);
    expect((await endpoints.world.ask()).status).toBe(503);
    await logged(/there is no usable Secret test\/absent/);
    expect(endpoint.connections).toBe(0);
    await settings(endpoint, absent, [credential({ ca: endpoints.partners.rootPem }, 'absent')]);
    expect((await endpoints.world.ask()).status).toBe(200);
    await endpoints.world.controller.push([], [{ type: 'credential', name: 'test/absent' }]);
    expect((await endpoints.world.ask()).status).toBe(503);
    expect(endpoint.connections).toBe(1);
  });

  test('settings that are broken: 503 with the reason', async () => {
    const endpoint = await tlsEndpoint(await partner(['shop.test']));
    await settings(endpoint, { tls: { mode: 'broken', why: 'privateKey: MUTUAL needs it' } });
    expect((await endpoints.world.ask()).status).toBe(503);
    await logged(/privateKey: MUTUAL needs it/);
    expect(endpoint.connections).toBe(0);
  });

  test('MUTUAL: shows its certificate, from a Secret or from files', async () => {
    const endpoint = await tlsEndpoint(await partner(['shop.test']), {
      requestCert: true,
      rejectUnauthorized: true,
      ca: endpoints.partners.rootPem,
    });
    const { chain, privateKey } = await partner(['client.test']);
    const parts = { certificate: chain.join('\n'), privateKey, ca: endpoints.partners.rootPem };
    await settings(endpoint, simple(), [credential(parts)]);
    expect((await endpoints.world.ask()).status).toBe(503);
    await settings(endpoint, simple({ mode: 'mutual' }));
    expect((await endpoints.world.ask()).status).toBe(200);
    expect(endpoint.heard.at(-1)?.peer).toContain('DNS:client.test');
    const file = (name: string, content: string): string => {
      writeFileSync(join(endpoints.folder, name), content);
      return join(endpoints.folder, name);
    };
    const source = {
      kind: 'files',
      ca: file('ca.pem', endpoints.partners.rootPem),
      certificate: file('cert.pem', chain.join('\n')),
      privateKey: file('key.pem', privateKey),
    };
    await settings(endpoint, simple({ mode: 'mutual', source }));
    expect((await endpoints.world.ask()).status).toBe(200);
    expect(endpoint.connections).toBeGreaterThanOrEqual(3);
    await settings(endpoint, simple({ source: { kind: 'files', ca: '/nowhere/ca.pem' } }));
    expect((await endpoints.world.ask()).status).toBe(503);
    await logged(/\/nowhere\/ca\.pem cannot be read: ENOENT/);
  });

  test('ISTIO_MUTUAL outside of tunnels: with the identity of the waypoint, to the one of the workload only', async () => {
    const issued = await endpoints.world.ca.issue('spiffe://cluster.local/ns/test/sa/legacy');
    const endpoint = await tlsEndpoint(issued, {
      requestCert: true,
      rejectUnauthorized: true,
      ca: endpoints.world.ca.rootPem,
    });
    const mutual = { tls: { mode: 'istio-mutual', subjectAltNames: [] } };
    await settings(endpoint, mutual, [], { serviceAccount: 'legacy' });
    expect((await endpoints.world.ask()).status).toBe(200);
    expect(endpoint.heard).toEqual([
      {
        serverName: 'outbound_.80_._.shop.test.svc.cluster.local',
        offered: ['istio-http/1.1', 'istio', 'http/1.1'],
        peer: 'URI:spiffe://cluster.local/ns/test/sa/waypoint',
        version: 'TLSv1.3',
      },
    ]);
    await settings(
      endpoint,
      { tls: { mode: 'istio-mutual', subjectAltNames: ['spiffe://cluster.local/ns/x/sa/y'] } },
      [],
      { serviceAccount: 'legacy' },
    );
    expect((await endpoints.world.ask()).status).toBe(503);
  });

  test('an endpoint that does not speak TLS, or not in time: 503 with the reason', async () => {
    const where = await listening(createTcpServer());
    const pool = { ...defaultTraffic.pool, connectTimeoutMs: 200 };
    await settings(where, { ...simple(), pool }, [credential({ ca: endpoints.partners.rootPem })]);
    expect((await endpoints.world.ask()).status).toBe(503);
    await logged(/TLS_error: no handshake in 200 ms/);
    const plain = createTcpServer((socket) => {
      socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    });
    await settings(await listening(plain), simple());
    expect((await endpoints.world.ask()).status).toBe(503);
    await logged(/503 UF.*TLS_error: wrong version number/);
  });

  test('inside the tunnel where the endpoint is in the mesh', async () => {
    const endpoint = await tlsEndpoint(await partner(['shop.test']));
    const ip = own();
    const node = await startNodeProxy(endpoints.world.ca, ip, endpoint);
    later(() => node.close());
    await settings({ ip, port: 8443 }, simple(), [credential({ ca: endpoints.partners.rootPem })], {
      tunnel: 'hbone',
      serviceAccount: 'meshed',
    });
    expect(await endpoints.world.ask()).toMatchObject({ status: 200, body: 'secure' });
    expect(node.authorities).toEqual([`${ip}:8443`]);
    expect(endpoint.heard[0]?.serverName).toBe('shop.test');
  });
});

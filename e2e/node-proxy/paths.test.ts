import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { warmThreadpool } from '@ambit/core';
import { aService, makeTestCa, startFakeController } from '@ambit/testkit';
import type { FakeController } from '@ambit/testkit';
import { tell, tellMesh, workloadOf } from '../support/mesh.ts';
import type { MeshNode } from '../support/node.ts';
import { eventually, samples, startNode } from '../support/node.ts';
import type { App, Pod } from '../support/pods.ts';
import { ask, call, ip, makeNetwork, makePod, removePod, serve } from '../support/pods.ts';

/** Rows 1 to 4, 16, 21 and 22 of the node proxy's table: who reaches whom, how, and what is told of it. */
let controller: FakeController;
let node1: MeshNode;
let node2: MeshNode;
let removeNetwork: () => void;
const pods: Record<'client' | 'near' | 'far' | 'far2' | 'plain', Pod> = {} as never;
const apps: App[] = [];

beforeAll(async () => {
  await warmThreadpool();
  removeNetwork = makeNetwork();
  pods.client = makePod('client', 1);
  pods.near = makePod('near', 2);
  pods.far = makePod('far', 3);
  pods.far2 = makePod('far2', 4);
  pods.plain = makePod('plain', 5);
  const ca = await makeTestCa();
  controller = await startFakeController({ ca });
  await tellMesh(controller, [ca.rootPem]);
  const member = {
    service: 'test/far.test.svc.cluster.local',
    ready: true,
    ports: [
      { servicePort: 80, targetPort: 8080 },
      { servicePort: 81, targetPort: 9090 },
    ],
  };
  await tell(controller, {
    services: [
      aService({
        name: 'far',
        vips: ['10.30.200.1', 'fd00:30::200:1'],
        ipFamilies: ['IPv4', 'IPv6'],
        ports: [
          { name: 'http', port: 80, appProtocol: '' },
          { name: 'named', port: 81, appProtocol: '' },
        ],
      }),
    ],
    workloads: [
      workloadOf(pods.client, 'n1'),
      workloadOf(pods.near, 'n1'),
      workloadOf(pods.far, 'n2', { services: [member] }),
      workloadOf(pods.far2, 'n2', {
        services: [
          {
            ...member,
            ports: [
              { servicePort: 80, targetPort: 8080 },
              { servicePort: 81, targetPort: 9191 },
            ],
          },
        ],
      }),
      workloadOf(pods.plain, 'n2', { tunnel: 'none' }),
    ],
  });
  node1 = await startNode('n1', controller);
  node2 = await startNode('n2', controller);
  await controller.settled(2);
  await node1.enrol(pods.client);
  await node1.enrol(pods.near);
  await node2.enrol(pods.far);
  await node2.enrol(pods.far2);
  for (const pod of Object.values(pods)) apps.push(serve(pod, 8080));
  apps.push(serve(pods.far, 9090), serve(pods.far2, 9191));
}, 60_000);

afterAll(async () => {
  for (const app of apps) app.close();
  await node1.stop();
  await node2.stop();
  await controller.close();
  for (const pod of Object.values(pods)) removePod(pod);
  removeNetwork();
});

afterEach(() => {
  for (const { seen } of apps) seen.splice(0);
  node1.access.splice(0);
  node2.access.splice(0);
});

function seenBy(pod: Pod): string[] {
  return apps[Object.values(pods).indexOf(pod)]?.seen ?? [];
}

const identity = (name: string): string => `spiffe://cluster.local/ns/test/sa/${name}`;

describe('who reaches whom', () => {
  test.each(['ip4', 'ip6'] as const)('local_captured_inpod (%s)', async (family) => {
    expect(await ask(pods.client, pods.near[family], 8080)).toBe('near');
    expect(seenBy(pods.near)).toEqual([pods.client[family]]);
    const lines = await eventually(
      () => node1.access,
      ({ length }) => length === 2,
    );
    expect(lines.map(({ direction }) => direction).sort()).toEqual(['inbound', 'outbound']);
    for (const line of lines) {
      expect(line).toMatchObject({
        level: 'info',
        message: 'connection complete',
        'src.workload': 'client',
        'src.identity': identity('client'),
        'dst.workload': 'near',
        'dst.identity': identity('near'),
        bytes_sent: 'near\nhello'.length,
        bytes_recv: 'hello'.length,
      });
    }
    const text = await node1.metrics();
    for (const reporter of ['source', 'destination']) {
      const labels = {
        reporter,
        source_principal: identity('client'),
        destination_principal: identity('near'),
        source_workload: 'client',
        destination_workload: 'near',
        connection_security_policy: 'mutual_tls',
        response_flags: '-',
        request_protocol: 'tcp',
      };
      const runs = family === 'ip4' ? 1 : 2;
      expect(samples(text, 'istio_tcp_connections_opened_total', labels)).toEqual([runs]);
      expect(samples(text, 'istio_tcp_connections_closed_total', labels)).toEqual([runs]);
      expect(samples(text, 'istio_tcp_received_bytes_total', labels)).toEqual([5 * runs]);
      expect(samples(text, 'istio_tcp_sent_bytes_total', labels)).toEqual([10 * runs]);
    }
  });

  test.each(['ip4', 'ip6'] as const)('server_uncaptured_inpod (%s)', async (family) => {
    expect(await ask(pods.client, pods.plain[family], 8080)).toBe('plain');
    expect(seenBy(pods.plain)).toEqual([pods.client[family]]);
    const [line] = await eventually(
      () => node1.access,
      ({ length }) => length === 1,
    );
    expect(line).toMatchObject({ direction: 'outbound', 'dst.workload': 'plain' });
    expect(line).not.toHaveProperty(['dst.identity']);
    const labels = { destination_workload: 'plain', connection_security_policy: 'unknown' };
    expect(
      samples(await node1.metrics(), 'istio_tcp_connections_opened_total', labels),
    ).toHaveLength(1);
  });

  test.each(['ip4', 'ip6'] as const)('client_uncaptured_inpod (%s)', async (family) => {
    expect(await ask(pods.plain, pods.far[family], 8080)).toBe('far');
    expect(seenBy(pods.far)).toEqual([pods.plain[family]]);
    const [line] = await eventually(
      () => node2.access,
      ({ length }) => length === 1,
    );
    expect(line).toMatchObject({
      direction: 'inbound',
      'src.workload': 'plain',
      'dst.workload': 'far',
    });
    expect(line).not.toHaveProperty(['src.identity']);
    const labels = {
      reporter: 'destination',
      source_principal: 'unknown',
      destination_workload: 'far',
      connection_security_policy: 'unknown',
    };
    expect(
      samples(await node2.metrics(), 'istio_tcp_connections_opened_total', labels),
    ).toHaveLength(1);
  });

  test.each(['ip4', 'ip6'] as const)('cross_node_captured_inpod (%s)', async (family) => {
    expect(await ask(pods.client, pods.far[family], 8080)).toBe('far');
    expect(seenBy(pods.far)).toEqual([pods.client[family]]);
    const [out] = await eventually(
      () => node1.access,
      ({ length }) => length === 1,
    );
    const [into] = await eventually(
      () => node2.access,
      ({ length }) => length === 1,
    );
    const written = family === 'ip4' ? pods.far.ip4 : `[${pods.far.ip6}]`;
    expect(out).toMatchObject({
      direction: 'outbound',
      'dst.addr': `${written}:15008`,
      'dst.hbone_addr': `${written}:8080`,
      'src.identity': identity('client'),
      'dst.identity': identity('far'),
    });
    expect(into).toMatchObject({
      direction: 'inbound',
      'dst.addr': `${written}:8080`,
      'src.identity': identity('client'),
      'dst.identity': identity('far'),
    });
  });
});

describe('services', () => {
  test('service_loadbalancing: one connection one backend, fifty reach both', async () => {
    const one = call(pods.client, ip('10.30.200.1'), 80);
    one.socket.write('a');
    const name = (await one.received(4)).split('\n')[0] ?? '';
    for (const letter of 'bcdef') one.socket.write(letter);
    expect(await one.received(name.length + 7)).toBe(`${name}\nabcdef`);
    one.socket.end();
    expect(await one.ended).toBe('end');
    const names = new Set<string>();
    for (let index = 0; index < 50; index += 1) {
      names.add(await ask(pods.client, ip(index % 2 ? '10.30.200.1' : 'fd00:30::200:1'), 80));
    }
    expect([...names].sort()).toEqual(['far', 'far2']);
    await eventually(
      () => node1.access,
      ({ length }) => length === 51,
    );
    expect(new Set(node1.access.map((line) => line['dst.service']))).toEqual(
      new Set(['far.test.svc.cluster.local']),
    );
    const labels = {
      destination_service: 'far.test.svc.cluster.local',
      destination_service_name: 'far',
      destination_service_namespace: 'test',
    };
    const counts = samples(await node1.metrics(), 'istio_tcp_connections_opened_total', labels);
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(51);
  });

  test('a named port goes to the port that each endpoint has under that name', async () => {
    const names = new Set<string>();
    for (let index = 0; index < 30; index += 1) {
      names.add(await ask(pods.client, ip('10.30.200.1'), 81));
    }
    expect([...names].sort()).toEqual(['far', 'far2']);
  });

  test('a port that the service does not have is refused and said', async () => {
    expect(await call(pods.client, ip('10.30.200.1'), 82).ended).toBe('ECONNRESET');
    const [line] = await eventually(
      () => node1.access,
      ({ length }) => length === 1,
    );
    expect(line).toMatchObject({ error: 'service far.test.svc.cluster.local has no port 82' });
  });
});

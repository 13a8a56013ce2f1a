import { connect } from 'node:net';
import type { Upsert } from '@ambit/api';
import { decodeGateway, decodeRouteTable, decodeWith, noChanges } from '@ambit/api';
import type { IpAddress, Port, SpiffeIdentity } from '@ambit/api';
import { parseSpiffeIdentity } from '@ambit/api';
import { createHbonePool } from '@ambit/core';
import {
  aMesh,
  aPolicy,
  aService,
  aWorkload,
  makeTestCa,
  startFakeController,
  startWaypointProcess,
  upserts,
} from '@ambit/testkit';
import type { TwoPorts } from './listen.ts';
import type { Open } from './load.ts';
import { programFile } from './programs.ts';

const vip = '10.96.0.1';
const service = 'test/shop.test.svc.cluster.local';
const waypointService = 'test/waypoint.test.svc.cluster.local';
const identity = 'spiffe://cluster.local/ns/test/sa/waypoint';
/** Ports of the service; the second one is declared to speak HTTP/2. */
const [http1Port, http2Port] = [80, 81];

/** A whole waypoint as a process of its own, and ways to open streams through it. */
export interface RunningWaypoint {
  readonly pid: number;
  readonly http1: Open;
  readonly http2: Open;
  close(): Promise<void>;
}

export async function startBenchWaypoint(
  backend: TwoPorts,
  routes: number,
  policies: number,
): Promise<RunningWaypoint> {
  const ca = await makeTestCa();
  const controller = await startFakeController({ ca });
  await controller.push([
    {
      type: 'mesh',
      name: 'default',
      version: 'v' as Upsert['version'],
      resource: aMesh({ roots: [ca.rootPem] }),
    },
    ...resourcesFor(backend, routes, policies),
  ]);
  const { child, port } = await startWaypointProcess(controller, {
    args: [programFile('waypoint')],
    env: process.env,
  });
  const clientIdentity = identityOf('spiffe://cluster.local/ns/test/sa/client');
  const certificate = await ca.certificate(clientIdentity.uri);
  const pool = createHbonePool({
    dial: ({ nextHop }) =>
      connect({ host: nextHop.ip, port: nextHop.port, allowHalfOpen: true, noDelay: true }),
    certificate: () => Promise.resolve(certificate),
  });
  const loopback = '127.0.0.1' as IpAddress;
  const through =
    (servicePort: number): Open =>
    async () => {
      const { stream } = await pool.connect(
        {
          source: clientIdentity,
          sourceIp: loopback,
          nextHop: { ip: loopback, port: port as Port },
          expected: new Set([identityOf(identity).uri]),
        },
        {
          authority: { kind: 'address', ip: vip as IpAddress, port: servicePort as Port },
          headers: [],
          timeoutMs: 5000,
        },
      );
      return stream;
    };
  return {
    pid: child.pid ?? 0,
    http1: through(http1Port),
    http2: through(http2Port),
    close: async () => {
      pool.destroy(() => true);
      child.kill('SIGTERM');
      await controller.close();
    },
  };
}

function identityOf(uri: string): SpiffeIdentity {
  const parsed = parseSpiffeIdentity(uri);
  if (!parsed.ok) throw new TypeError(parsed.error.message);
  return parsed.value;
}

function resourcesFor(backend: TwoPorts, routes: number, policies: number): Upsert[] {
  const gateway = decodeWith(decodeGateway, {
    name: 'waypoint',
    namespace: 'test',
    className: 'istio-waypoint',
    waypointFor: 'service',
    identity,
    service: waypointService,
    xfccClientIdentity: true,
    trustedForwarders: [],
  });
  const table = routeTable(routes);
  if (!table.ok || !gateway.ok) throw new TypeError('the benchmark configures nonsense');
  const version = 'v' as Upsert['version'];
  return [
    { type: 'gateway', name: 'test/waypoint', version, resource: gateway.value },
    ...upserts({
      services: [
        aService({
          name: 'shop',
          vips: [vip],
          ports: [
            { name: 'http', port: http1Port, appProtocol: '' },
            { name: 'grpc', port: http2Port, appProtocol: '' },
          ],
          waypoint: { kind: 'service', service: waypointService, port: 15008 },
        }),
      ],
      policies: Array.from({ length: policies }, (_, index) => denyPath(index)),
      workloads: [
        aWorkload({
          name: 'backend',
          addresses: ['127.0.0.1'],
          tunnel: 'none',
          services: [
            {
              service,
              ready: true,
              ports: [
                { servicePort: http1Port, targetPort: backend.http1 },
                { servicePort: http2Port, targetPort: backend.http2 },
              ],
            },
          ],
        }),
      ],
    }),
    { type: 'route', name: table.value.service, version, resource: table.value },
  ];
}

/** Each route for one path and for one port; the one that is asked for comes last. */
function routeTable(routes: number) {
  const forPort = (port: number) =>
    Array.from({ length: routes }, (_, index) => ({
      name: `route-${index}`,
      matches: [
        {
          path: { kind: 'prefix', value: `/path-${routes - 1 - index + 9}` },
          port,
          ignorePathCase: false,
          headers: [],
          withoutHeaders: [],
          query: [],
          sourceLabels: [],
        },
      ],
      action: {
        kind: 'forward',
        targets: [
          {
            weight: 100,
            target: { kind: 'service', service, port },
            request: noChanges,
            response: noChanges,
          },
        ],
        rewrite: {},
      },
      request: noChanges,
      response: noChanges,
      fault: {},
      mirrors: [],
    }));
  return decodeWith(decodeRouteTable, {
    service,
    tls: [],
    tcp: [],
    http: [...forPort(http2Port), ...forPort(http1Port)],
  });
}

function denyPath(index: number) {
  const values = [{ kind: 'prefix', value: `/forbidden-${index}` }];
  return aPolicy({
    name: `p-${index}`,
    scope: { kind: 'targeted', targets: [{ kind: 'service', service }] },
    rules: [
      {
        from: [],
        to: [[{ kind: 'request', attribute: { kind: 'path' }, values, notValues: [] }]],
        when: [],
      },
    ],
  });
}

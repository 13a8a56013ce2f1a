import type { ChildProcess } from 'node:child_process';
import { fork, spawn } from 'node:child_process';
import { createServer, connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Upsert } from '@ambit/api';
import { decodeGateway, decodeRouteTable, decodeWith, noChanges } from '@ambit/api';
import { connectSession } from '@ambit/core';
import {
  aMesh,
  aPolicy,
  aService,
  aWorkload,
  makeTestCa,
  startFakeController,
  upserts,
} from '@ambit/testkit';
import { cpuSeconds, median, rssMib } from '../process-figures.ts';
import type { Open } from './load.ts';
import { load, overTcp, overTunnel } from './load.ts';

const [seconds = 4, rounds = 3] = process.argv.slice(2).map(Number);
const programs = dirname(fileURLToPath(import.meta.url));
const vip = '10.96.0.1';
const service = 'test/shop.test.svc.cluster.local';

interface Figures {
  readonly perCpuSecond: number;
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
}

async function forked(
  name: string,
  ...args: string[]
): Promise<{ child: ChildProcess; port: number }> {
  const child = fork(join(programs, `${name}.mjs`), args, {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const { port } = await new Promise<{ port: number }>((resolve) =>
    child.once('message', (told) => resolve(told as { port: number })),
  );
  return { child, port };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

function resourcesFor(backendPort: number, routes: number, policies: number): Upsert[] {
  const target = {
    weight: 100,
    target: { kind: 'service', service, port: 80 },
    request: noChanges,
    response: noChanges,
  };
  const table = decodeWith(decodeRouteTable, {
    service,
    tls: [],
    tcp: [],
    http: Array.from({ length: routes }, (_, index) => ({
      name: `route-${index}`,
      matches: [
        {
          path: { kind: index % 2 === 0 ? 'prefix' : 'exact', value: `/path-${index}` },
          ignorePathCase: false,
          headers: [],
          withoutHeaders: [],
          query: [],
          sourceLabels: [],
        },
      ],
      action: { kind: 'forward', targets: [target], rewrite: {} },
      request: noChanges,
      response: noChanges,
      fault: {},
      mirrors: [],
    })),
  });
  const gateway = decodeWith(decodeGateway, {
    name: 'waypoint',
    namespace: 'test',
    className: 'istio-waypoint',
    waypointFor: 'service',
    identity: 'spiffe://cluster.local/ns/test/sa/waypoint',
    service: 'test/waypoint.test.svc.cluster.local',
    xfccClientIdentity: true,
    trustedForwarders: [],
  });
  if (!table.ok || !gateway.ok) throw new TypeError('the bench configures nonsense');
  const version = 'v' as Upsert['version'];
  return [
    { type: 'gateway', name: 'test/waypoint', version, resource: gateway.value },
    ...upserts({
      services: [
        aService({
          name: 'shop',
          vips: [vip],
          waypoint: {
            kind: 'service',
            service: 'test/waypoint.test.svc.cluster.local',
            port: 15008,
          },
        }),
      ],
      policies: Array.from({ length: policies }, (_, index) =>
        aPolicy({
          name: `p-${index}`,
          scope: { kind: 'targeted', targets: [{ kind: 'service', service }] },
          rules: [
            {
              from: [],
              to: [
                [
                  {
                    kind: 'request',
                    attribute: { kind: 'path' },
                    values: [{ kind: 'prefix', value: `/forbidden-${index}` }],
                    notValues: [],
                  },
                ],
              ],
              when: [],
            },
          ],
        }),
      ),
      workloads: [
        aWorkload({
          name: 'backend',
          addresses: ['127.0.0.1'],
          tunnel: 'none',
          services: [
            { service, ready: true, ports: [{ servicePort: 80, targetPort: backendPort }] },
          ],
        }),
      ],
    }),
    { type: 'route', name: table.value.service, version, resource: table.value },
  ];
}

/** A whole waypoint as a process of its own, and a way to open streams through it. */
async function startProxy(backendPort: number, routes: number, policies: number) {
  const ca = await makeTestCa();
  const controller = await startFakeController({ ca });
  await controller.push([
    {
      type: 'mesh',
      name: 'default',
      version: 'v' as Upsert['version'],
      resource: aMesh({ roots: [ca.rootPem] }),
    },
    ...resourcesFor(backendPort, routes, policies),
  ]);
  const [port, admin, metrics, readiness] = await Promise.all([
    freePort(),
    freePort(),
    freePort(),
    freePort(),
  ]);
  const child = spawn(process.execPath, [join(programs, 'waypoint.mjs')], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: {
      ...process.env,
      GATEWAY_NAME: 'waypoint',
      POD_NAMESPACE: 'test',
      SERVICE_ACCOUNT: 'waypoint',
      POD_NAME: 'waypoint-1',
      NODE_NAME: 'node-1',
      CONTROLLER_ADDRESS: `127.0.0.1:${controller.port}`,
      TOKEN_FILE: controller.tokenFile,
      ROOTS_FILE: controller.rootsFile,
      HBONE_PORT: String(port),
      ADMIN_PORT: String(admin),
      METRICS_PORT: String(metrics),
      READINESS_PORT: String(readiness),
    },
  });
  await untilReady(readiness);
  const session = await connectSession({
    socket: connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true }),
    certificate: await ca.certificate('spiffe://cluster.local/ns/test/sa/client'),
    expected: {
      kind: 'identities',
      identities: new Set(['spiffe://cluster.local/ns/test/sa/waypoint' as never]),
    },
  });
  return {
    child,
    open: overTunnel(session, vip),
    close: async () => {
      session.session.destroy();
      child.kill('SIGTERM');
      await controller.close();
    },
  };
}

async function untilReady(port: number): Promise<void> {
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/healthz/ready`).catch(() => undefined);
    if (answer?.status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function measure(
  child: ChildProcess,
  open: Open,
  connections: number,
  path: string,
): Promise<Figures> {
  const pid = child.pid ?? 0;
  const before = cpuSeconds(pid);
  const started = performance.now();
  const { requests, latencies } = await load(open, connections, path, seconds * 1000);
  const cpu = cpuSeconds(pid) - before;
  const at = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? 0;
  return {
    perCpuSecond: requests / cpu,
    perSecond: requests / ((performance.now() - started) / 1000),
    p50: at(0.5),
    p99: at(0.99),
  };
}

const backend = await forked('bench-waypoint-backend');
const plain = await forked('bench-waypoint-plain', String(backend.port));
const small = await startProxy(backend.port, 10, 2);
const usual = await startProxy(backend.port, 100, 20);
const large = await startProxy(backend.port, 1000, 200);
const candidates = [
  {
    name: 'plain node:http + undici',
    child: plain.child,
    open: overTcp(plain.port),
    path: '/path-1',
  },
  {
    name: 'waypoint, 10 routes, 2 policies',
    child: small.child,
    open: small.open,
    path: '/path-9',
  },
  {
    name: 'waypoint, 100 routes, 20 policies',
    child: usual.child,
    open: usual.open,
    path: '/path-99',
  },
  {
    name: 'waypoint, 1000 routes, 200 policies',
    child: large.child,
    open: large.open,
    path: '/path-999',
  },
];
for (const connections of [1, 16, 64]) {
  const results = new Map<string, Figures[]>(candidates.map(({ name }) => [name, []]));
  for (const { child, open, path } of candidates) await measure(child, open, connections, path);
  for (let round = 0; round < rounds; round += 1) {
    for (const { name, child, open, path } of candidates) {
      results.get(name)?.push(await measure(child, open, connections, path));
    }
  }
  const base = median(
    (results.get('plain node:http + undici') ?? []).map(({ perCpuSecond }) => perCpuSecond),
  );
  console.log(
    `\nHTTP/1.1 keep-alive, ${connections} connections, 1 KiB answers, ${rounds} rounds of ${seconds} s, medians`,
  );
  for (const { name, child } of candidates) {
    const all = results.get(name) ?? [];
    const of = (figure: keyof Figures): number => median(all.map((one) => one[figure]));
    const perCpu = of('perCpuSecond');
    console.log(
      `${name.padEnd(38)} ${perCpu.toFixed(0).padStart(7)} requests per CPU second (${(perCpu / base).toFixed(2)} of plain), ` +
        `${of('perSecond').toFixed(0)}/s, p50 ${of('p50').toFixed(2)} ms, p99 ${of('p99').toFixed(2)} ms, RSS ${rssMib(child.pid ?? 0).toFixed(0)} MiB`,
    );
  }
}
for (const proxy of [small, usual, large]) await proxy.close();
backend.child.disconnect();
plain.child.disconnect();
process.exit(0);

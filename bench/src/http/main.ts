// npm run bench:waypoint [-- ROUNDS SECONDS [ROW]]: the waypoint alone, each kind of work beside its baselines.
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { cpuSeconds, rssMib } from '../process-figures.ts';
import type { Candidate } from './compare.ts';
import { compare, tableOf } from './compare.ts';
import { envoyArguments, envoyBinary, envoyConfig } from './envoy.ts';
import type { TwoPorts } from './listen.ts';
import type { Open } from './load.ts';
import { load, overTcp } from './load.ts';
import { freePort } from '@ambit/testkit';
import { forked } from './programs.ts';
import { startMeshWays } from './mesh.ts';
import type { RunningWaypoint } from './waypoint.ts';
import { startBenchWaypoint } from './waypoint.ts';
import { httpRows, isHttp2 } from './work.ts';

const root = process.argv[2] ?? process.cwd();
const rounds = Number(process.argv[3] ?? 3);
const seconds = Number(process.argv[4] ?? 4);
const only = process.argv[5];
const say = (text: string): void => void process.stdout.write(`${text}\n`);
const base = 'plain proxy';

function candidate(
  name: string,
  proxies: readonly number[],
  open: { readonly http1: Open; readonly http2: Open },
): Candidate {
  return {
    name,
    proxies,
    run: ({ work }, time) => load(isHttp2(work) ? open.http2 : open.http1, work, time),
  };
}

function overPorts({ http1, http2 }: TwoPorts) {
  return { http1: overTcp('127.0.0.1', http1), http2: overTcp('127.0.0.1', http2) };
}

async function startEnvoy(
  backend: TwoPorts,
): Promise<{ readonly child: ChildProcess; readonly ports: TwoPorts } | undefined> {
  const binary = envoyBinary(root);
  if (binary === undefined) return undefined;
  const ports = { http1: await freePort(), http2: await freePort() };
  const folder = mkdtempSync(join(tmpdir(), 'ambit-bench-'));
  const file = join(folder, 'envoy.json');
  const listen = [ports.http1, ports.http2] as const;
  const target = { host: '127.0.0.1', ...backend, listen, routes: 100, policies: 20 };
  writeFileSync(file, envoyConfig(target));
  const child = spawn(binary, envoyArguments(file), { stdio: ['ignore', 'ignore', 'inherit'] });
  child.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  await new Promise<void>((done, failed) => {
    child.once('error', failed);
    const retry = (left: number): void => {
      overTcp('127.0.0.1', ports.http2)().then(
        (stream) => {
          stream.abort(new Error('only a look'));
          done();
        },
        (error: unknown) => {
          if (left === 0) failed(error instanceof Error ? error : new Error(String(error)));
          else setTimeout(() => retry(left - 1), 100);
        },
      );
    };
    retry(100);
  });
  return { child, ports };
}

const backend = await forked('bench-http-backend');
const { http1, http2 } = backend.ports;
const plain = await forked('bench-http-plain', '127.0.0.1', String(http1), String(http2));
const envoy = await startEnvoy(backend.ports);
const sizes = [
  [10, 10],
  [100, 20],
  [1000, 1000],
] as const;
const named = ([routes, policies]: readonly [number, number]): string =>
  `waypoint, ${routes} routes, ${policies} policies`;
const waypoints: RunningWaypoint[] = [];
for (const [routes, policies] of sizes) {
  waypoints.push(await startBenchWaypoint(backend.ports, routes, policies));
}
const candidates = [
  candidate('direct', [], overPorts(backend.ports)),
  candidate(base, [plain.child.pid ?? 0], overPorts(plain.ports)),
  ...(envoy === undefined
    ? []
    : [candidate('Envoy, 100 routes', [envoy.child.pid ?? 0], overPorts(envoy.ports))]),
  ...waypoints.map((running, index) =>
    candidate(named(sizes[index] ?? [0, 0]), [running.pid], running),
  ),
];
say(
  `${cpus().length} cores, Linux ${release()}, Node ${process.version}; medians of ${rounds} interleaved rounds of ${seconds} s. ` +
    'The waypoint takes its requests in mutual TLS (HBONE) and has metrics and access log on; the others are asked in plain text.',
);
const wanted = httpRows.filter(({ name }) => only === undefined || name.includes(only));
const machine = { cpuSeconds, rssMib };
say('\nThe waypoint alone, on loopback');
for (const row of wanted) {
  say(`\n${tableOf(await compare(row, candidates, { rounds, seconds }, machine), base)}`);
}
for (const running of waypoints) await running.close();
envoy?.child.kill('SIGTERM');
backend.child.disconnect();
plain.child.disconnect();

say(
  '\nIn a cluster of two nodes, one proxy on the way or the whole mesh; CPU of all proxies together',
);
const mesh = await startMeshWays(root, envoyBinary(root), base);
try {
  for (const row of wanted) {
    say(`\n${tableOf(await compare(row, mesh.candidates, { rounds, seconds }, machine), base)}`);
  }
} finally {
  await mesh.close();
}
process.exit(0);

// npm run bench: the same load over three ways from a client on one node to a server on another.
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { startSandbox } from '@ambit/sandbox';
import { dataplaneModeLabel } from '@ambit/api';
import type { BenchCluster } from './cluster.ts';
import { prepareCluster } from './cluster.ts';
import { cpuSeconds, median, rssMib } from './process-figures.ts';
import type { Figure, Measured } from './table.ts';
import { renderMarkdown, renderTable } from './table.ts';
import type { LoadResult, Path, Row } from './work.ts';
import { paths, rows } from './work.ts';

const root = process.argv[2] ?? process.cwd();
const rounds = Number(process.argv[3] ?? 3);
const seconds = Number(process.argv[4] ?? 5);
const idleConnections = 1000;

const say = (text: string): void => void process.stdout.write(`${text}\n`);

const sandbox = await startSandbox(
  { root, samples: false, verbose: false, tour: false },
  (_text, work) => work(),
);
try {
  const cluster = await prepareCluster(sandbox.tour, root);
  await sandbox.tour.label('bench-ambit', dataplaneModeLabel, 'ambient');
  await cluster.untilCaptured();
  const measured: Measured[] = [];
  for (const row of rows(seconds)) measured.push(await measureRow(cluster, row));
  const idle = await measureIdle(cluster);
  report(measured, idle);
} finally {
  await sandbox.close();
}

/** Interleaves the paths, so that a busy moment of the machine hits all of them, and takes medians. */
async function measureRow(cluster: BenchCluster, row: Row): Promise<Measured> {
  const samples: Record<Path, Figure[]> = { direct: [], 'plain pair': [], ambit: [] };
  for (let round = 0; round < rounds; round += 1) {
    for (const path of paths) samples[path].push(await measure(cluster, row, path));
  }
  say(`· ${row.name}`);
  return {
    row,
    figures: {
      direct: middle(samples.direct),
      'plain pair': middle(samples['plain pair']),
      ambit: middle(samples.ambit),
    },
  };
}

async function measure(cluster: BenchCluster, row: Row, path: Path): Promise<Figure> {
  const proxies = cluster.proxies(path);
  const before = total(proxies.map(cpuSeconds));
  const result: LoadResult = await cluster.load(path, row.work);
  const used = total(proxies.map(cpuSeconds)) - before;
  return {
    rate: result.units / result.seconds,
    ...(result.p50Ms === undefined ? {} : { p50Ms: result.p50Ms }),
    ...(result.p99Ms === undefined ? {} : { p99Ms: result.p99Ms }),
    cpu: (used / result.units) * row.cpuPer,
  };
}

function middle(figures: readonly Figure[]): Figure {
  const of = (pick: (figure: Figure) => number | undefined): number =>
    median(figures.map((figure) => pick(figure) ?? 0));
  const latency =
    figures[0]?.p50Ms === undefined ? {} : { p50Ms: of((f) => f.p50Ms), p99Ms: of((f) => f.p99Ms) };
  return { rate: of((f) => f.rate), cpu: of((f) => f.cpu), ...latency };
}

interface IdleFigure {
  readonly path: Path;
  readonly rssMib: readonly number[];
  readonly grownKibPerConnection: number;
}

async function measureIdle(cluster: BenchCluster): Promise<IdleFigure[]> {
  const figures: IdleFigure[] = [];
  for (const path of ['plain pair', 'ambit'] as const) {
    const proxies = cluster.proxies(path);
    const before = proxies.map(rssMib);
    const rss = await cluster.whileIdle(path, idleConnections, () => proxies.map(rssMib));
    const grown = Math.max(...rss.map((after, index) => after - (before[index] ?? 0)));
    figures.push({ path, rssMib: rss, grownKibPerConnection: (grown * 1024) / idleConnections });
  }
  return figures;
}

function report(measured: readonly Measured[], idle: readonly IdleFigure[]): void {
  const machine = `${cpus().length} cores, Linux ${release()}, Node ${process.version}; medians of ${rounds} interleaved rounds of ${seconds} s; CPU of both proxies together`;
  say('');
  say(machine);
  say('');
  say(renderTable(measured));
  say('');
  const lines = idle.map(({ path, rssMib: rss, grownKibPerConnection }) => [
    path,
    rss.map((value) => `${value.toFixed(0)} MiB`).join(' / '),
    `${grownKibPerConnection.toFixed(1)} KiB`,
  ]);
  say(
    renderMarkdown([
      [`${idleConnections} idle connections`, 'RSS of each proxy', 'grown, a connection'],
      ...lines,
    ]),
  );
  const folder = join(root, 'bench/results');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'latest.json');
  writeFileSync(file, `${JSON.stringify({ machine, measured, idle }, null, 2)}\n`);
  say('');
  say(`saved as ${file}`);
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

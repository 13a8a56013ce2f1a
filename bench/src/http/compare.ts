import { median } from '../process-figures.ts';
import { renderMarkdown } from '../table.ts';
import type { HttpResult, HttpRow } from './work.ts';

/** One of the ways that are compared. */
export interface Candidate {
  readonly name: string;
  /** Process ids of the proxies on the way; their CPU is counted. */
  readonly proxies: readonly number[];
  run(row: HttpRow, seconds: number): Promise<HttpResult>;
}

export interface Compared {
  readonly row: string;
  readonly name: string;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU milliseconds of all proxies together for 1,000 requests; 0 where there is none. */
  readonly cpuMs: number;
  readonly rssMib: number;
}

export interface Machine {
  cpuSeconds(pid: number): number;
  rssMib(pid: number): number;
}

const warmUpSeconds = 5;

/** Interleaves the candidates, so that a busy moment of the machine hits all of them; medians over the rounds. */
export async function compare(
  row: HttpRow,
  candidates: readonly Candidate[],
  { rounds, seconds }: { readonly rounds: number; readonly seconds: number },
  machine: Machine,
): Promise<Compared[]> {
  const samples = new Map<string, (HttpResult & { readonly cpuMs: number })[]>();
  const cpuOf = ({ proxies }: Candidate): number =>
    proxies.reduce((sum, pid) => sum + machine.cpuSeconds(pid), 0);
  for (let round = -1; round < rounds; round += 1) {
    for (const candidate of candidates) {
      const before = cpuOf(candidate);
      // The round before the first one warms up and is not counted: until then code is still being compiled.
      const result = await candidate.run(
        row,
        round < 0 ? Math.max(warmUpSeconds, seconds) : seconds,
      );
      const cpuMs = ((cpuOf(candidate) - before) * 1_000_000) / result.requests;
      if (round < 0) continue;
      samples.set(candidate.name, [...(samples.get(candidate.name) ?? []), { ...result, cpuMs }]);
    }
  }
  return candidates.map(({ name, proxies }) => {
    const all = samples.get(name) ?? [];
    const of = (pick: (one: HttpResult & { readonly cpuMs: number }) => number): number =>
      median(all.map(pick));
    return {
      row: row.name,
      name,
      perSecond: of(({ requests, seconds: taken }) => requests / taken),
      p50Ms: of(({ p50Ms }) => p50Ms),
      p99Ms: of(({ p99Ms }) => p99Ms),
      cpuMs: of(({ cpuMs }) => cpuMs),
      rssMib: proxies.reduce((sum, pid) => sum + machine.rssMib(pid), 0),
    };
  });
}

/** A table of one kind of work; `base` is the name of the candidate that the others are told in terms of. */
export function tableOf(compared: readonly Compared[], base: string): string {
  const reference = compared.find(({ name }) => name === base);
  const head = [
    compared[0]?.row ?? '',
    'requests/s',
    'p50 ms',
    'p99 ms',
    'CPU ms per 1,000',
    'requests per CPU second',
    `against ${base}`,
    'RSS MiB',
  ];
  const lines = compared.map(({ name, perSecond, p50Ms, p99Ms, cpuMs, rssMib }) => [
    name,
    perSecond.toFixed(0),
    p50Ms.toFixed(2),
    p99Ms.toFixed(2),
    cpuMs === 0 ? '–' : cpuMs.toFixed(0),
    cpuMs === 0 ? '–' : (1_000_000 / cpuMs).toFixed(0),
    cpuMs === 0 || reference === undefined ? '–' : `${(reference.cpuMs / cpuMs).toFixed(2)}×`,
    rssMib === 0 ? '–' : rssMib.toFixed(0),
  ]);
  return renderMarkdown([head, ...lines]);
}

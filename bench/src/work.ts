/** One kind of work that the load generator does. */
export type Work =
  | { readonly kind: 'request-response'; readonly connections: number; readonly seconds: number }
  | { readonly kind: 'connections'; readonly concurrency: number; readonly seconds: number }
  | { readonly kind: 'bulk'; readonly streams: number; readonly seconds: number }
  | { readonly kind: 'idle'; readonly connections: number; readonly seconds: number };

/** What was done: requests, connections, GiB or idle connections. */
export interface LoadResult {
  readonly units: number;
  readonly seconds: number;
  readonly p50Ms?: number;
  readonly p99Ms?: number;
}

/** The ways from the client to the application that are compared. */
export type Path = 'direct' | 'plain pair' | 'ambit';
export const paths: readonly Path[] = ['direct', 'plain pair', 'ambit'];

export interface Row {
  readonly name: string;
  readonly work: Work;
  /** What one unit is, for the table. */
  readonly unit: string;
  /** Units over which CPU is told: seconds per GiB, per 1,000 connections, per 1,000 requests. */
  readonly cpuPer: number;
}

export function rows(seconds: number): Row[] {
  return [
    {
      name: 'request-response, 1 connection',
      work: { kind: 'request-response', connections: 1, seconds },
      unit: 'req',
      cpuPer: 1000,
    },
    {
      name: 'request-response, 64 connections',
      work: { kind: 'request-response', connections: 64, seconds },
      unit: 'req',
      cpuPer: 1000,
    },
    {
      name: 'new connections, 16 at once',
      work: { kind: 'connections', concurrency: 16, seconds },
      unit: 'conn',
      cpuPer: 1000,
    },
    {
      name: 'throughput, 1 stream',
      work: { kind: 'bulk', streams: 1, seconds },
      unit: 'GiB',
      cpuPer: 1,
    },
    {
      name: 'throughput, 8 streams',
      work: { kind: 'bulk', streams: 8, seconds },
      unit: 'GiB',
      cpuPer: 1,
    },
  ];
}

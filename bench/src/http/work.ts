/** One kind of HTTP work that the load generator does. */
export type HttpWork =
  /** One request after the other on each of some connections. */
  | { readonly kind: 'keep-alive'; readonly connections: number; readonly path: string }
  /** A connection for each request. */
  | { readonly kind: 'new-connections'; readonly concurrency: number; readonly path: string }
  /** Requests start when they are due, whether earlier ones are answered or not; latency counts from then. */
  | { readonly kind: 'fixed-rate'; readonly perSecond: number; readonly path: string }
  | HttpTwoWork;

export interface HttpTwoWork {
  readonly kind: 'http2' | 'grpc';
  readonly connections: number;
  /** Requests at once on each connection. */
  readonly streams: number;
  readonly path: string;
}

export interface HttpResult {
  readonly requests: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface HttpRow {
  readonly name: string;
  readonly work: HttpWork;
}

/** What is asked for, as the backend answers it. */
export const smallPath = '/path-9';
export const largePath = '/path-9/large';
export const grpcPath = '/path-9/Call';
export const smallBytes = 1024;
export const largeBytes = 1024 * 1024;
/** Every body ends with it, so that the load needs no parser of HTTP/1.1. */
export const endMark = '\n#END#';
export const largeHeader = 'x-bench-large';

export const httpRows: readonly HttpRow[] = [
  ...[1, 16, 64].map((connections) => ({
    name: `HTTP/1.1 keep-alive, ${connections} connection${connections === 1 ? '' : 's'}`,
    work: { kind: 'keep-alive', connections, path: smallPath } as const,
  })),
  {
    name: 'HTTP/1.1, a connection for each request, 16 at once',
    work: { kind: 'new-connections', concurrency: 16, path: smallPath },
  },
  {
    name: 'HTTP/1.1 at a fixed 400 requests a second',
    work: { kind: 'fixed-rate', perSecond: 400, path: smallPath },
  },
  {
    name: 'HTTP/1.1, bodies of 1 MiB, 4 connections',
    work: { kind: 'keep-alive', connections: 4, path: largePath },
  },
  {
    name: 'HTTP/2, 4 connections of 16 streams',
    work: { kind: 'http2', connections: 4, streams: 16, path: smallPath },
  },
  {
    name: 'gRPC unary, 4 connections of 16 streams',
    work: { kind: 'grpc', connections: 4, streams: 16, path: grpcPath },
  },
];

/** HTTP/2 has a port of its own where a proxy cannot tell by the first bytes. */
export function isHttp2({ kind }: HttpWork): boolean {
  return kind === 'http2' || kind === 'grpc';
}

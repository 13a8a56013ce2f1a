/** Bounds of one HTTP/1.1 connection; those of Envoy where it has them. */
export interface Http1Limits {
  /** Request line or status line with all fields. */
  readonly maxHeadBytes: number;
  readonly maxFields: number;
  /** A head that was begun must be whole after this long. */
  readonly headTimeoutMs: number;
  /** A connection on which nothing happens between two requests. */
  readonly idleTimeoutMs: number;
  /** A client that neither sends on nor reads; endpoints may be silent as long as the route allows. */
  readonly stallTimeoutMs: number;
  /** 1xx answers to one request. */
  readonly maxInformational: number;
}

export const defaultHttp1Limits: Http1Limits = {
  maxHeadBytes: 60 * 1024,
  maxFields: 100,
  headTimeoutMs: 10_000,
  idleTimeoutMs: 60 * 60_000,
  stallTimeoutMs: 5 * 60_000,
  maxInformational: 16,
};

/** A line with the size of a chunk, and all extensions of one body together. */
export const maxChunkLineBytes = 256;
export const maxExtensionBytes = 16 * 1024;

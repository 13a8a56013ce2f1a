/** A refused or failed call of the Kubernetes API. `status` is 0 when no answer came. */
export class KubeError extends Error {
  readonly code = 'kube/request-failed';
  readonly status: number;
  /** The API's machine-readable reason, for example `AlreadyExists`. */
  readonly reason: string;
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    about: { status?: number; reason?: string; retryAfterMs?: number | undefined; cause?: unknown },
  ) {
    super(message, about.cause === undefined ? undefined : { cause: about.cause });
    this.name = 'KubeError';
    this.status = about.status ?? 0;
    this.reason = about.reason ?? '';
    this.retryAfterMs = about.retryAfterMs;
  }
}

/** What is read is not usable, and nothing before it was: whoever needs it waits until it is mended. */
export class UnusableError extends Error {}

/** The HTTP status of a failed call, 0 for anything else; never `instanceof`, which fails across realms. */
export function kubeStatus(error: unknown): number {
  if (typeof error !== 'object' || error === null || !('code' in error)) return 0;
  if (error.code !== 'kube/request-failed' || !('status' in error)) return 0;
  return typeof error.status === 'number' ? error.status : 0;
}

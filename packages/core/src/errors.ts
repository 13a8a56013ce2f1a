/** An expected failure with a stable code of the form `<area>/<what>`; `cause` keeps what led to it. */
export class MeshError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = 'MeshError';
    this.code = code;
  }
}

/** The `code` of an error of Node or of ours. Never `instanceof`: errors of another realm would fail it. */
export function errnoCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

export function messageOf(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'message' in error)
    return String(error.message);
  return String(error);
}

const maxCauses = 8;

/** `outer: inner: innermost`, for logs. */
export function causeChain(error: unknown): string {
  const parts: string[] = [];
  let current: unknown = error;
  while (current !== undefined && current !== null && parts.length < maxCauses) {
    parts.push(messageOf(current));
    current = typeof current === 'object' && 'cause' in current ? current.cause : undefined;
  }
  return parts.join(': ');
}

export function isAbort(error: unknown): boolean {
  return (
    errnoCode(error) === 'ABORT_ERR' ||
    (typeof error === 'object' && error !== null && 'name' in error && error.name === 'AbortError')
  );
}

/** Why a stream or a session ended other than in order. */
export class HboneError extends Error {
  readonly code: string;
  /** True when the peer has certainly not acted on the stream, so it may be tried elsewhere. */
  readonly retryable: boolean;

  constructor(
    code: string,
    message: string,
    options: { readonly retryable?: boolean; readonly cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = 'HboneError';
    this.code = code;
    this.retryable = options.retryable ?? false;
  }
}

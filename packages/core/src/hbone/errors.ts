import { errorCode } from './frames.ts';
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

export function resetByPeer(code: number): HboneError {
  return new HboneError('hbone/reset', `the peer reset the stream (code ${code})`, {
    retryable: code === errorCode.refusedStream,
  });
}

export function notTaken(): HboneError {
  return new HboneError('hbone/goaway', 'the peer goes away and did not take the stream', {
    retryable: true,
  });
}

export function silentFor(ms: number): HboneError {
  return new HboneError('hbone/peer-silent', `no answer to a PING in ${ms} ms`);
}

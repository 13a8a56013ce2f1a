import { errorCode } from './frames.ts';

/** Why a stream or a session ended other than in order. */
export class Http2Error extends Error {
  readonly code: string;
  /** True when the peer has certainly not acted on the stream, so it may be tried elsewhere. */
  readonly retryable: boolean;

  constructor(
    code: string,
    message: string,
    options: { readonly retryable?: boolean; readonly cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = 'Http2Error';
    this.code = code;
    this.retryable = options.retryable ?? false;
  }
}

export function resetByPeer(code: number): Http2Error {
  return new Http2Error('http2/reset', `the peer reset the stream (code ${code})`, {
    retryable: code === errorCode.refusedStream,
  });
}

export function notTaken(): Http2Error {
  return new Http2Error('http2/goaway', 'the peer goes away and did not take the stream', {
    retryable: true,
  });
}

export function silentFor(ms: number): Http2Error {
  return new Http2Error('http2/peer-silent', `no answer to a PING in ${ms} ms`);
}

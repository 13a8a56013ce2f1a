import { Http2Error } from '../http2/errors.ts';

/** Why a tunnel was not opened. What ends an open one is an `Http2Error` of its session. */
export class HboneError extends Http2Error {
  constructor(code: string, message: string, options: { readonly cause?: unknown } = {}) {
    super(code, message, options);
    this.name = 'HboneError';
  }
}

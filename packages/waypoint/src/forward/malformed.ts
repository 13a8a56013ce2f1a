import type { Downstream, WaypointContext } from '../context.ts';
import { HeaderList } from '../http/headers.ts';
import type { HttpError, RequestHead } from '../http/message.ts';
import { RequestRecord } from './record.ts';

/** Tells of what was no request, as Envoy does: what came is not known, what was answered is. */
export function tellMalformed(
  context: WaypointContext,
  downstream: Downstream,
  protocol: RequestHead['protocol'],
  error: HttpError,
): void {
  context.metrics.rejected(error.code);
  // A connection that is cut for its framing answers nothing.
  if (error.status === 0) return;
  const record = new RequestRecord(context, downstream, { ...unknown, protocol });
  const { flags, details } = reasonOf(error, protocol);
  record.fail(error.status, flags, details);
  record.route = '';
  record.finishUntraced();
}

const unknown: Omit<RequestHead, 'protocol'> = {
  method: '-',
  scheme: '',
  authority: '-',
  path: '-',
  headers: new HeaderList(),
  upgrade: undefined,
  expectContinue: false,
};

function reasonOf(
  { status }: HttpError,
  protocol: RequestHead['protocol'],
): { readonly flags: string; readonly details: string } {
  const isHttp2 = protocol === 'HTTP/2';
  switch (status) {
    case 405:
      // CONNECT, for which there is no route.
      return { flags: 'NR', details: 'route_not_found' };
    case 408:
      return { flags: '-', details: 'request_header_timeout' };
    case 431:
      return {
        flags: 'DPE',
        details: isHttp2 ? 'request_headers_too_large' : 'http1.headers_too_large',
      };
    default:
      return {
        flags: 'DPE',
        details: isHttp2 ? 'http2.violation.of.messaging.rule' : 'http1.codec_error',
      };
  }
}

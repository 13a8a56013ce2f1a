import { noChanges } from '@ambit/api';
import { HeaderList } from '../http/headers.ts';
import type { ServerExchange } from '../http/message.ts';
import { changeHeaders } from '../route/changes.ts';

/** What the answer says of an endpoint that did not answer. */
export function localReason(status: number, flags: string): string {
  if (flags === 'UH') return 'no healthy upstream';
  if (flags === 'UO')
    return 'upstream connect error or disconnect/reset before headers. reset reason: overflow';
  if (status === 504) return 'upstream request timeout';
  return 'upstream connect error or disconnect/reset before headers';
}

/** An answer of the proxy's own. */
export function answerLocally(
  exchange: ServerExchange,
  status: number,
  body: string,
  changes = noChanges,
  more: readonly (readonly [string, string])[] = [],
): void {
  const grpc =
    exchange.request.headers.get('content-type')?.startsWith('application/grpc') === true;
  const headers = HeaderList.of(more);
  if (grpc && status >= 400) {
    // A gRPC client reads its status from the trailers, here sent with the head.
    headers.set('content-type', 'application/grpc');
    headers.set('grpc-status', String(grpcOf(status)));
    headers.set('grpc-message', encodeURIComponent(body));
    changeHeaders(headers, changes);
    exchange.respond({ status: 200, headers }, false);
    return;
  }
  const bytes = Buffer.from(body);
  if (bytes.length > 0 && !headers.has('content-type')) headers.set('content-type', 'text/plain');
  changeHeaders(headers, changes);
  const hasBody =
    bytes.length > 0 && exchange.request.method !== 'HEAD' && status !== 204 && status !== 304;
  if (hasBody) headers.set('content-length', String(bytes.length));
  exchange.respond({ status, headers }, hasBody);
  if (!hasBody) return;
  exchange.write(bytes);
  exchange.end();
}

function grpcOf(status: number): number {
  switch (status) {
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    default:
      return status === 429 || status >= 500 ? 14 : 2;
  }
}

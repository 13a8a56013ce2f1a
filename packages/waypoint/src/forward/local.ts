import type { HeaderChanges } from '@ambit/api';
import type { AccessEntry } from '@ambit/core';
import { grpcMessage, grpcOfHttp, isGrpc } from '../http/grpc.ts';
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

export interface LocalAnswer {
  readonly fields?: readonly (readonly [string, string])[];
  /** Made one after the other. */
  readonly changes?: readonly HeaderChanges[];
  /** What their formats read. */
  readonly entry?: AccessEntry;
  /** For who speaks gRPC; what the status maps to when absent. */
  readonly grpcStatus?: number;
}

/** An answer of the proxy's own. */
export function answerLocally(
  exchange: ServerExchange,
  status: number,
  body: string | Buffer,
  { fields = [], changes = [], entry, grpcStatus }: LocalAnswer = {},
): void {
  const headers = HeaderList.of(fields);
  const change = (): void => changes.forEach((one) => void changeHeaders(headers, one, entry));
  if ((status >= 400 || grpcStatus !== undefined) && isGrpc(exchange.request.headers)) {
    // A gRPC client reads its status from the trailers, here sent with the head.
    headers.set('content-type', 'application/grpc');
    headers.set('grpc-status', String(grpcStatus ?? grpcOfHttp(status)));
    if (body.length > 0) headers.set('grpc-message', grpcMessage(body.toString()));
    change();
    exchange.respond({ status: 200, headers }, false);
    return;
  }
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  if (bytes.length > 0 && !headers.has('content-type')) headers.set('content-type', 'text/plain');
  change();
  send(exchange, status, headers, bytes);
}

function send(exchange: ServerExchange, status: number, headers: HeaderList, bytes: Buffer): void {
  const hasBody =
    bytes.length > 0 && exchange.request.method !== 'HEAD' && status !== 204 && status !== 304;
  if (hasBody) headers.set('content-length', String(bytes.length));
  exchange.respond({ status, headers }, hasBody);
  if (!hasBody) return;
  exchange.write(bytes);
  exchange.end();
}

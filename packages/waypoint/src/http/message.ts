import type { ByteStream } from '@ambit/core';
import type { HeaderList } from './headers.ts';

export type HttpProtocol = 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2';

/** A request as the proxy sees it, whatever version carried it. Connection-level fields are gone. */
export interface RequestHead {
  readonly method: string;
  readonly scheme: string;
  /** Lower-case host, perhaps with a port. */
  authority: string;
  /** Origin form with its query, or `*`. */
  path: string;
  readonly headers: HeaderList;
  readonly protocol: HttpProtocol;
  /** What the client wants to change to, for example `websocket`. */
  readonly upgrade: string | undefined;
  readonly expectContinue: boolean;
}

export interface ResponseHead {
  readonly status: number;
  readonly headers: HeaderList;
}

/** Takes a body in order; after `end` nothing comes any more. */
export interface BodySink {
  data(chunk: Buffer): void;
  end(trailers: HeaderList | undefined): void;
}

/** What the side that answers is told of its client. */
export interface ExchangeEvents {
  /** `write` returned false earlier and may go on. */
  drain(): void;
  /** The client is gone, or its message broke; nothing more can be said to it. */
  gone(error: HttpError): void;
}

/** One request that waits for its answer, independent of the protocol's version. */
export interface ServerExchange {
  readonly request: RequestHead;
  readonly hasBody: boolean;
  /** The client is gone: an answer would reach nobody. */
  readonly gone: boolean;
  /** Says who listens; called once, before the first byte of the body is read. */
  attach(events: ExchangeEvents, body: BodySink): void;
  /** Tells when the client leaves before anybody is attached; without a listener nobody is told. */
  watch(gone: ((error: HttpError) => void) | undefined): void;
  pauseBody(): void;
  resumeBody(): void;
  /** An answer before the answer: 100 to 199. */
  inform(head: ResponseHead): void;
  /** Begins the answer; with no body it is over with that. */
  respond(head: ResponseHead, hasBody: boolean): void;
  write(chunk: Buffer): boolean;
  end(trailers?: HeaderList): void;
  /** Answers 101 and gives the connection over, both ways. */
  upgrade(head: ResponseHead): ByteStream | undefined;
  /** Cuts the exchange off so that the client sees that it is not whole. */
  abort(error: Error): void;
}

/** What the side that asks is told of the answer, in this order: informational*, then response, data*, end; or failed. */
export interface ResponseEvents {
  informational(head: ResponseHead): void;
  response(head: ResponseHead, hasBody: boolean): void;
  data(chunk: Buffer): void;
  end(trailers: HeaderList | undefined): void;
  /** The connection was changed over (101). */
  upgraded(head: ResponseHead, stream: ByteStream): void;
  drain(): void;
  failed(error: HttpError): void;
}

/** One request on its way to an endpoint. */
export interface ClientExchange {
  write(chunk: Buffer): boolean;
  end(trailers?: HeaderList): void;
  pauseBody(): void;
  resumeBody(): void;
  /** Gives it up; nothing more is told of it. */
  abort(error: Error): void;
}

/** A connection to an endpoint. */
export interface ClientConnection {
  readonly protocol: 'HTTP/1.1' | 'HTTP/2';
  /** True while another request may be sent now. */
  readonly free: boolean;
  readonly closed: boolean;
  readonly active: number;
  request(head: RequestHead, hasBody: boolean, events: ResponseEvents): ClientExchange;
  /** No new requests; what is under way goes on. */
  drain(): void;
  destroy(error: Error): void;
}

/** Why an exchange broke. `status` is what to tell the client where it can still be told. */
export class HttpError extends Error {
  readonly code: string;
  readonly status: number;
  /** True when the other side certainly did not act on the request. */
  readonly unprocessed: boolean;

  constructor(code: string, status: number, message: string, unprocessed = false) {
    super(message);
    this.name = 'HttpError';
    this.code = code;
    this.status = status;
    this.unprocessed = unprocessed;
  }
}

import type { HeaderList } from '../http/headers.ts';
import type { ClientExchange, RequestHead, ResponseEvents, ResponseHead } from '../http/message.ts';
import { HttpError } from '../http/message.ts';
import type { UpstreamCluster } from './cluster.ts';
import type { Acquired } from './connections.ts';
import type { Client, EndpointHost, UpstreamProtocol } from './endpoint.ts';
import type { TryOutcome } from './retry.ts';
import { grpcStatusOf } from './retry.ts';

/** An answer that is thrown away for another try is read to its end when it is short; else its connection is cut. */
const maxDiscardBytes = 64 * 1024;
const discardTimeoutMs = 5_000;

/** Who is told what becomes of a try. */
export interface TryOwner {
  tryReady(attempt: Try): void;
  tryOver(outcome: TryOutcome, host: EndpointHost, reused: boolean): boolean;
  tryFailed(outcome: TryOutcome, error: HttpError): void;
  respond(head: ResponseHead, hasBody: boolean): void;
  inform(head: ResponseHead): void;
  responseData(chunk: Buffer): boolean;
  responseEnd(trailers: HeaderList | undefined): void;
  upgraded(head: ResponseHead, upstream: Parameters<ResponseEvents['upgraded']>[1]): void;
  writable(): void;
}

/** Of a mirrored request: takes what comes and keeps nothing. */
export const lookingOn: TryOwner = {
  tryReady: (attempt) => {
    attempt.writeOwn();
  },
  tryOver: () => false,
  tryFailed: () => undefined,
  respond: () => undefined,
  inform: () => undefined,
  responseData: () => true,
  responseEnd: () => undefined,
  upgraded: (_head, upstream) => upstream.abort(new Error('nobody asked')),
  writable: () => undefined,
};

export interface TryParts {
  readonly host: EndpointHost;
  readonly cluster: UpstreamCluster;
  readonly head: RequestHead;
  /** The host that TLS is to ask for, where it is not the one of the head. */
  readonly serverAuthority?: string;
  readonly hasBody: boolean;
  readonly client: Client;
  readonly protocol: UpstreamProtocol;
  readonly perTryTimeoutMs: number | undefined;
  readonly body?: readonly Buffer[];
  /** The time is for the whole answer and not only for its head. */
  readonly timesAnswer?: boolean;
}

/** One try at one endpoint. */
export class Try implements ResponseEvents {
  ready = false;
  readonly #owner: TryOwner;
  readonly #parts: TryParts;
  #acquired: Acquired | undefined;
  #client: ClientExchange | undefined;
  #timer: NodeJS.Timeout | undefined;
  #reused = false;
  #counted = false;
  #over = false;
  #answered = false;
  #discarding = false;

  constructor(owner: TryOwner, parts: TryParts) {
    this.#owner = owner;
    this.#parts = parts;
  }

  start(): void {
    const { host, cluster, client, protocol, head } = this.#parts;
    const { serverAuthority: authority = head.authority } = this.#parts;
    this.#counted = true;
    host.active += 1;
    cluster.requests += 1;
    this.#acquired = cluster.pool.acquire(
      { host, client, protocol, authority },
      (connection, reused) => {
        if (this.#over) return;
        this.#reused = reused;
        this.#client = connection.request(this.#parts.head, this.#parts.hasBody, this);
        this.ready = true;
        this.#owner.tryReady(this);
      },
      (error) =>
        this.#end({ kind: error.code === 'pool/overflow' ? 'overflow' : 'connect-failure' }, error),
    );
  }

  /** The request is there to its end, so that nobody is late for having much to say: now the endpoint has its time. */
  startTimer(): void {
    const { perTryTimeoutMs } = this.#parts;
    if (perTryTimeoutMs === undefined || perTryTimeoutMs === 0) return;
    if (this.#over || this.#answered) return;
    this.#timer = setTimeout(() => this.#timedOut(), perTryTimeoutMs);
  }

  write(chunk: Buffer): boolean {
    return this.#client?.write(chunk) ?? true;
  }

  sendEnd(trailers?: HeaderList): void {
    this.#client?.end(trailers);
  }

  writeOwn(): void {
    for (const chunk of this.#parts.body ?? []) this.write(chunk);
    this.#client?.end();
  }

  resume(): void {
    this.#client?.resumeBody();
  }

  /** The request is given up from outside. */
  abandon(error: Error): void {
    if (this.#over) return;
    this.#settle();
    this.#acquired?.cancel();
    this.#client?.abort(error);
  }

  informational(head: ResponseHead): void {
    this.#owner.inform(head);
  }

  response(head: ResponseHead, hasBody: boolean): void {
    this.#answered = true;
    if (this.#parts.timesAnswer !== true) clearTimeout(this.#timer);
    const { host } = this.#parts;
    const outcome: TryOutcome = {
      kind: 'response',
      status: head.status,
      grpcStatus: grpcStatusOf(head.headers),
      headers: head.headers,
    };
    if (this.#owner.tryOver(outcome, host, false)) {
      this.#discard(head, hasBody);
      return;
    }
    this.#owner.respond(head, hasBody);
    if (!hasBody) this.#settle();
  }

  /** Reads a short answer to its end, so that the connection can be used for the next try. */
  #discard(head: ResponseHead, hasBody: boolean): void {
    this.#settle();
    this.#discarding = true;
    if (!hasBody) return;
    const length = Number(head.headers.get('content-length') ?? '0');
    if (length > maxDiscardBytes) this.#client?.abort(new Error('answer not wanted'));
    else
      this.#timer = setTimeout(() => this.#client?.abort(new Error('too late')), discardTimeoutMs);
  }

  data(chunk: Buffer): void {
    if (this.#discarding) {
      this.#discarded += chunk.length;
      if (this.#discarded > maxDiscardBytes) this.#client?.abort(new Error('answer not wanted'));
      return;
    }
    if (!this.#owner.responseData(chunk)) this.#client?.pauseBody();
  }
  #discarded = 0;

  end(trailers: HeaderList | undefined): void {
    if (this.#discarding) {
      clearTimeout(this.#timer);
      return;
    }
    this.#settle();
    this.#owner.responseEnd(trailers);
  }

  upgraded(head: ResponseHead, stream: Parameters<ResponseEvents['upgraded']>[1]): void {
    this.#settle();
    this.#owner.upgraded(head, stream);
  }

  drain(): void {
    this.#owner.writable();
  }

  failed(error: HttpError): void {
    if (this.#discarding) {
      clearTimeout(this.#timer);
      return;
    }
    this.#end({ kind: 'reset', unprocessed: error.unprocessed }, error);
  }

  #timedOut(): void {
    this.#acquired?.cancel();
    const error = new HttpError('try/timeout', 504, 'the try took too long');
    const client = this.#client;
    this.#end({ kind: 'try-timeout' }, error);
    client?.abort(error);
  }

  #end(outcome: TryOutcome, error: HttpError): void {
    if (this.#over) return;
    this.#settle();
    if (!this.#owner.tryOver(outcome, this.#parts.host, this.#reused)) {
      this.#owner.tryFailed(outcome, error);
    }
  }

  #settle(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    if (!this.#counted) return;
    this.#counted = false;
    this.#parts.host.active -= 1;
    this.#parts.cluster.requests -= 1;
  }
}

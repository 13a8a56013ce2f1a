import type { ByteStream } from '@ambit/core';
import type { HeaderList } from '../http/headers.ts';
import type {
  ClientConnection,
  ClientExchange,
  RequestHead,
  ResponseEvents,
  ResponseHead,
} from '../http/message.ts';
import { HttpError } from '../http/message.ts';
import { Deadline } from './deadline.ts';
import { LastHead } from './fields.ts';
import type { Framing } from './head.ts';
import { parseResponseHead } from './head.ts';
import type { Http1Limits } from './limits.ts';
import { MessageParser } from './parser.ts';
import { TakenOver } from './taken-over.ts';

export interface Http1ClientOptions {
  readonly limits: Http1Limits;
  readonly idleTimeoutMs: number;
  readonly maxRequests: number;
  /** May take another request now. */
  readonly onFree: (connection: Http1ClientConnection) => void;
  readonly onClosed: (connection: Http1ClientConnection) => void;
}

const retireMs = 1_000;
/** A request that is sent while the endpoint closes its connection is lost, and may not be sent again. */
const closingReserveMs = 1_000;
const chunkEnd = Buffer.from('\r\n');
const lastChunk = Buffer.from('0\r\n\r\n');

/** The client's side of one connection, one request at a time. Anything unasked for ends it. */
export class Http1ClientConnection implements ClientConnection {
  readonly protocol = 'HTTP/1.1';
  readonly #stream: ByteStream;
  readonly #options: Http1ClientOptions;
  readonly #parser: MessageParser;
  readonly #deadline: Deadline;
  readonly #lastHead = new LastHead('response');
  #exchange: Exchange | undefined;
  #takenOver: TakenOver | undefined;
  #served = 0;
  #keepAlive = true;
  #draining = false;
  #retired = false;
  #keptMs: number | undefined;
  /** From then on the endpoint may be closing it. */
  #usableUntil = Number.POSITIVE_INFINITY;
  closed = false;

  constructor(stream: ByteStream, options: Http1ClientOptions) {
    this.#stream = stream;
    this.#options = options;
    const { limits } = options;
    // How long an endpoint may be silent while it is asked something is for the timeout of the route to say.
    this.#deadline = new Deadline(Math.max(10, options.idleTimeoutMs / 8), () => this.drain());
    this.#parser = new MessageParser(limits, {
      head: (text) => this.#head(text),
      data: (chunk) => this.#exchange?.data(chunk),
      end: (trailers) => this.#responseEnd(trailers),
      failed: (error) => this.#broken(new HttpError(error.code, 502, error.message)),
    });
    this.#deadline.set(options.idleTimeoutMs);
    stream.attach({
      data: (chunk) => this.#data(chunk),
      end: () => this.#end(),
      drain: () => {
        if (this.#takenOver === undefined) this.#exchange?.drain();
        else this.#takenOver.drain();
      },
      close: (error) => this.#close(error),
    });
  }

  get free(): boolean {
    if (this.#exchange !== undefined || this.closed || !this.#keepAlive || this.#draining)
      return false;
    return this.#keptMs === undefined || performance.now() < this.#usableUntil;
  }

  get active(): number {
    return this.#exchange === undefined ? 0 : 1;
  }

  request(head: RequestHead, hasBody: boolean, events: ResponseEvents): ClientExchange {
    this.#served += 1;
    const exchange = new Exchange(this, head, events);
    this.#exchange = exchange;
    this.#deadline.clear();
    exchange.begin(hasBody);
    return exchange;
  }

  drain(): void {
    this.#draining = true;
    const isIdle = this.#exchange === undefined && this.#takenOver === undefined;
    if (isIdle && !this.closed && !this.#retired) {
      this.#retire();
    }
  }

  /** Ends in order; an endpoint that does not follow is cut off. */
  #retire(): void {
    this.#keepAlive = false;
    this.#retired = true;
    this.#parser.stop();
    this.#stream.end();
    this.#stream.resume();
    const late = setTimeout(() => this.destroy(new Error('the endpoint did not close')), retireMs);
    late.unref();
  }

  destroy(error: Error): void {
    if (!this.closed) this.#stream.abort(error);
  }

  send(bytes: Buffer): boolean {
    return this.#stream.write(bytes);
  }

  sendHead(text: string): void {
    const stream = this.#stream;
    if (stream.writeLatin1 === undefined) stream.write(Buffer.from(text, 'latin1'));
    else stream.writeLatin1(text);
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  #data(chunk: Buffer): void {
    if (this.#takenOver !== undefined) {
      this.#takenOver.data(chunk);
      return;
    }
    if (this.#retired) return;
    if (this.#exchange === undefined) {
      // Nobody has asked: whatever this answers, it is not the next request.
      this.destroy(new HttpError('http1/unsolicited', 502, 'bytes on an idle connection'));
      return;
    }
    this.#parser.push(chunk);
  }

  #head(text: string): Framing | HttpError | 'stop' {
    const exchange = this.#exchange;
    if (exchange === undefined)
      return new HttpError('http1/unsolicited', 502, 'an answer to nothing');
    const { maxFields } = this.#options.limits;
    const parsed = parseResponseHead(text, exchange.head.method, maxFields, this.#lastHead);
    if (!parsed.ok) return parsed.error;
    const { head, framing, keepAlive, keptMs, upgrade } = parsed.value;
    if (head.status === 101) {
      if (exchange.head.upgrade === undefined || upgrade?.toLowerCase() !== exchange.head.upgrade) {
        return new HttpError(
          'http1/bad-upgrade',
          502,
          'a change of protocol that nobody asked for',
        );
      }
      queueMicrotask(() => this.#takeOver(exchange, head));
      return 'stop';
    }
    if (head.status < 200) {
      exchange.informationalCount += 1;
      if (exchange.informationalCount > this.#options.limits.maxInformational) {
        return new HttpError(
          'http1/too-many-informational',
          502,
          'too many answers before the answer',
        );
      }
      // 100 is between us and the endpoint; the client got its own.
      if (head.status !== 100) exchange.informational(head);
      return framing;
    }
    exchange.answered = true;
    this.#keepAlive = keepAlive && keptMs !== 0 && this.#served < this.#options.maxRequests;
    this.#keptMs = keptMs;
    exchange.response(head, framing.kind !== 'none');
    return framing;
  }

  #responseEnd(trailers: HeaderList | undefined): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    if (!exchange.answered) {
      this.#parser.next();
      return;
    }
    this.#exchange = undefined;
    const reusable = this.#keepAlive && exchange.sent;
    if (exchange.hadBody) exchange.ended(trailers);
    if (this.#parser.restBytes > 0) {
      // Nobody has asked for what came behind the answer.
      this.#keepAlive = false;
      this.destroy(new HttpError('http1/unsolicited', 502, 'bytes behind an answer'));
      return;
    }
    if (!reusable || this.#draining) {
      this.#retire();
      return;
    }
    this.#deadline.set(this.#options.idleTimeoutMs);
    if (this.#keptMs !== undefined) {
      const reserve = Math.min(closingReserveMs, this.#keptMs / 2);
      this.#usableUntil = performance.now() + this.#keptMs - reserve;
    }
    this.#parser.next();
    this.#stream.resume();
    this.#options.onFree(this);
  }

  #takeOver(exchange: Exchange, head: { status: number; headers: HeaderList }): void {
    if (this.closed) return;
    this.#deadline.clear();
    this.#takenOver = new TakenOver(this.#stream, this.#parser.takeRest());
    this.#exchange = undefined;
    exchange.upgraded(head, this.#takenOver);
  }

  #end(): void {
    if (this.#takenOver !== undefined) {
      this.#takenOver.finish();
      return;
    }
    this.#keepAlive = false;
    this.#parser.close();
    if (!this.closed) this.#stream.end();
    if (this.#exchange !== undefined) {
      this.#broken(new HttpError('http1/cut-off', 502, 'the endpoint closed before it answered'));
    }
  }

  #broken(error: HttpError): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#keepAlive = false;
    this.destroy(error);
    exchange?.failed(error);
  }

  #close(error?: Error): void {
    if (this.closed) return;
    this.closed = true;
    this.#deadline.close();
    this.#takenOver?.close(error);
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#options.onClosed(this);
    exchange?.failed(
      new HttpError('http1/reset', 503, error?.message ?? 'the endpoint closed the connection'),
    );
  }

  /** For the exchange: its asker has lost interest. */
  abandon(exchange: Exchange, error: Error): void {
    if (this.#exchange !== exchange) return;
    this.#exchange = undefined;
    this.destroy(error);
  }
}

/** One request and its answer; its asker hears nothing more once it has given up. */
class Exchange implements ClientExchange {
  readonly head: RequestHead;
  readonly #events: ResponseEvents;
  informationalCount = 0;
  answered = false;
  /** The request is out to its last byte. */
  sent = false;
  hadBody = true;
  readonly #connection: Http1ClientConnection;
  #chunked = false;
  #left = 0;
  #over = false;

  constructor(connection: Http1ClientConnection, head: RequestHead, events: ResponseEvents) {
    this.#connection = connection;
    this.head = head;
    this.#events = events;
  }

  begin(hasBody: boolean): void {
    const { method, path, authority, headers, upgrade } = this.head;
    const length = headers.get('content-length');
    let lines = '';
    if (hasBody && length === undefined) {
      this.#chunked = true;
      lines = 'transfer-encoding: chunked\r\n';
    } else if (hasBody) this.#left = Number(length);
    if (upgrade !== undefined) lines += `connection: Upgrade\r\nupgrade: ${upgrade}\r\n`;
    this.sent = !hasBody;
    this.#connection.sendHead(
      `${method} ${path} HTTP/1.1\r\nhost: ${authority}\r\n${headers.toLines()}${lines}\r\n`,
    );
  }

  write(chunk: Buffer): boolean {
    if (this.#over || this.sent || chunk.length === 0) return true;
    if (!this.#chunked) {
      this.#left -= chunk.length;
      return this.#connection.send(chunk);
    }
    this.#connection.send(Buffer.from(`${chunk.length.toString(16)}\r\n`, 'latin1'));
    this.#connection.send(chunk);
    return this.#connection.send(chunkEnd);
  }

  end(trailers?: HeaderList): void {
    if (this.#over || this.sent) return;
    this.sent = true;
    if (!this.#chunked) return;
    const none = trailers === undefined || trailers.count === 0;
    this.#connection.send(
      none ? lastChunk : Buffer.from(`0\r\n${trailers.toLines()}\r\n`, 'latin1'),
    );
  }

  informational(answer: ResponseHead): void {
    if (!this.#over) this.#events.informational(answer);
  }

  response(answer: ResponseHead, hasBody: boolean): void {
    this.hadBody = hasBody;
    if (!this.#over) this.#events.response(answer, hasBody);
  }

  data(chunk: Buffer): void {
    if (!this.#over) this.#events.data(chunk);
  }

  ended(trailers: HeaderList | undefined): void {
    if (!this.#over) this.#events.end(trailers);
  }

  upgraded(answer: ResponseHead, stream: ByteStream): void {
    if (this.#over) stream.abort(new Error('nobody waits for it any more'));
    else this.#events.upgraded(answer, stream);
  }

  drain(): void {
    if (!this.#over) this.#events.drain();
  }

  failed(error: HttpError): void {
    if (!this.#over) this.#events.failed(error);
  }

  pauseBody(): void {
    if (!this.#over) this.#connection.pause();
  }

  resumeBody(): void {
    if (!this.#over) this.#connection.resume();
  }

  abort(error: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.#connection.abandon(this, error);
  }
}

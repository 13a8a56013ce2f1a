import type { ByteStream } from '@ambit/core';
import type { HeaderList } from '../http/headers.ts';
import type {
  BodySink,
  ExchangeEvents,
  RequestHead,
  ResponseHead,
  ServerExchange,
} from '../http/message.ts';
import { HttpError } from '../http/message.ts';
import { Deadline } from './deadline.ts';
import { LastHead } from './fields.ts';
import type { Framing } from './head.ts';
import { parseRequestHead } from './head.ts';
import type { Http1Limits } from './limits.ts';
import { MessageParser } from './parser.ts';
import { reasonPhrase } from './reason.ts';
import { TakenOver } from './taken-over.ts';

export interface Http1ServerOptions {
  readonly limits: Http1Limits;
  readonly onRequest: (exchange: ServerExchange) => void;
  /** A message that was no good request; it is answered. `begun` where its head was one, and the exchange is told. */
  readonly onMalformed: (error: HttpError, begun: boolean) => void;
  readonly onClosed: (connection: Http1ServerConnection) => void;
}

const maxPipelinedBytes = 64 * 1024;
const lingerMs = 1_000;
const chunkEnd = Buffer.from('\r\n');
const lastChunk = Buffer.from('0\r\n\r\n');
const continueAnswer = Buffer.from('HTTP/1.1 100 Continue\r\n\r\n');

/** The server's side of one connection: one request after the other, each answered before the next is looked at. */
export class Http1ServerConnection {
  readonly #stream: ByteStream;
  readonly #options: Http1ServerOptions;
  readonly #parser: MessageParser;
  readonly #deadline: Deadline;
  readonly #lastHead = new LastHead('request');
  #exchange: Exchange | undefined;
  #takenOver: TakenOver | undefined;
  /** The body of the request is not wanted yet. */
  #bodyPaused = false;
  /** More requests have come than are held. */
  #full = false;
  /** The client does not read what it is sent. */
  #unread = false;
  #draining = false;
  #peerEnded = false;
  #closed = false;

  constructor(stream: ByteStream, options: Http1ServerOptions) {
    this.#stream = stream;
    this.#options = options;
    const { limits } = options;
    this.#deadline = new Deadline(Math.max(10, limits.headTimeoutMs / 8), () => this.#late());
    this.#deadline.set(limits.idleTimeoutMs);
    this.#parser = new MessageParser(limits, {
      head: (text) => this.#head(text),
      data: (chunk) => this.#exchange?.bodyData(chunk),
      end: (trailers) => this.#requestEnd(trailers),
      failed: (error) => this.#malformed(error),
    });
    stream.attach({
      data: (chunk) => this.#data(chunk),
      end: () => this.#end(),
      drain: () => {
        this.#unread = false;
        if (this.#exchange !== undefined) this.#deadline.set(limits.stallTimeoutMs);
        if (this.#takenOver === undefined) this.#exchange?.events?.drain();
        else this.#takenOver.drain();
      },
      close: (error) => this.#close(error),
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  get idle(): boolean {
    return this.#exchange === undefined && this.#takenOver === undefined;
  }

  /**
   * The next answer that begins says `connection: close` and is the last. A connection without a request is left
   * open: its client may have sent one that is on its way here.
   */
  drain(): void {
    this.#draining = true;
  }

  /** Ends the connection if nothing is under way on it. */
  closeIdle(): void {
    if (!this.#closed && this.idle && !this.#parser.inHead) this.#finish();
  }

  get draining(): boolean {
    return this.#draining || this.#isLast;
  }

  /** The client has said all, and nothing of that is left. */
  get #isLast(): boolean {
    return this.#peerEnded && this.#parser.restBytes === 0;
  }

  destroy(error: Error): void {
    if (!this.#closed) this.#stream.abort(error);
  }

  /** For the exchange: sends bytes. */
  send(bytes: Buffer): boolean {
    this.#deadline.set(this.#options.limits.stallTimeoutMs);
    const room = this.#stream.write(bytes);
    this.#unread = !room;
    return room;
  }

  pause(): void {
    this.#bodyPaused = true;
    this.#stream.pause();
  }

  resume(): void {
    if (this.#bodyPaused) this.#deadline.set(this.#options.limits.stallTimeoutMs);
    this.#bodyPaused = false;
    if (!this.#full) this.#stream.resume();
  }

  takeOver(): ByteStream {
    const taken = new TakenOver(this.#stream, this.#parser.takeRest());
    this.#parser.stop();
    this.#deadline.clear();
    this.#takenOver = taken;
    this.#exchange = undefined;
    return taken;
  }

  /** For the exchange: both the request and its answer are over. */
  exchangeOver(keep: boolean): void {
    this.#exchange = undefined;
    if (!keep || this.#isLast) {
      this.#finish();
      return;
    }
    this.#deadline.set(this.#options.limits.idleTimeoutMs);
    this.#bodyPaused = false;
    this.#parser.next();
    // Nothing more comes: what of the next one is there in part stays so.
    if (this.#peerEnded) this.#parser.close();
    this.#full = this.#parser.restBytes > maxPipelinedBytes;
    // A client that has sent more requests than are held waits until they are answered.
    if (!this.#full && !this.#isBodyPaused()) this.#stream.resume();
  }

  #isBodyPaused(): boolean {
    return this.#bodyPaused;
  }

  /** Ends in order; what the client still sends is thrown away for a moment, so that it can read the answer. */
  #finish(): void {
    this.#parser.stop();
    this.#deadline.clear();
    this.#stream.end();
    this.#stream.resume();
    if (this.#peerEnded) return;
    const linger = setTimeout(() => this.destroy(new Error('the client did not close')), lingerMs);
    linger.unref();
    this.#lingering = linger;
  }
  #lingering: NodeJS.Timeout | undefined;

  #data(chunk: Buffer): void {
    if (this.#takenOver !== undefined) {
      this.#takenOver.data(chunk);
      return;
    }
    if (this.#exchange === undefined) {
      if (!this.#parser.inHead) this.#deadline.set(this.#options.limits.headTimeoutMs);
    } else this.#deadline.set(this.#options.limits.stallTimeoutMs);
    this.#parser.push(chunk);
    if (this.#exchange === undefined || this.#parser.restBytes <= maxPipelinedBytes) return;
    this.#full = true;
    this.#stream.pause();
  }

  #head(text: string): Framing | HttpError {
    const { limits, onRequest } = this.#options;
    const parsed = parseRequestHead(text, limits.maxFields, this.#lastHead);
    if (!parsed.ok) return parsed.error;
    const { head, framing, keepAlive } = parsed.value;
    this.#deadline.set(limits.stallTimeoutMs);
    const exchange = new Exchange(this, head, framing.kind !== 'none', keepAlive);
    this.#exchange = exchange;
    onRequest(exchange);
    return framing;
  }

  #requestEnd(trailers: HeaderList | undefined): void {
    this.#exchange?.requestEnded(trailers);
  }

  #malformed(error: HttpError): void {
    const exchange = this.#exchange;
    this.#options.onMalformed(error, exchange !== undefined);
    if (exchange !== undefined) {
      exchange.broken(error);
      if (exchange.begun) {
        this.destroy(error);
        return;
      }
      this.#exchange = undefined;
    }
    this.#answerBad(error.status);
  }

  #answerBad(status: number): void {
    this.#stream.write(
      Buffer.from(
        `HTTP/1.1 ${status} ${reasonPhrase(status)}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`,
        'latin1',
      ),
    );
    this.#finish();
  }

  #late(): void {
    const exchange = this.#exchange;
    if (exchange !== undefined) {
      // How long an endpoint may be silent is for the timeout of the route to say.
      if (!this.#unread && (this.#bodyPaused || !exchange.awaitsBody)) {
        this.#deadline.set(this.#options.limits.stallTimeoutMs);
        return;
      }
      const error = new HttpError('http1/stalled', 408, 'no progress for too long');
      exchange.broken(error);
      this.destroy(error);
    } else if (this.#parser.inHead) {
      this.#options.onMalformed(
        new HttpError('http1/slow-head', 408, 'the head did not come in time'),
        false,
      );
      this.#answerBad(408);
    } else this.#finish();
  }

  #end(): void {
    this.#peerEnded = true;
    if (this.#takenOver !== undefined) {
      this.#takenOver.finish();
      return;
    }
    this.#parser.close();
    if (this.#exchange === undefined && !this.#closed) this.#stream.end();
  }

  #close(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#lingering);
    this.#deadline.close();
    this.#parser.stop();
    if (this.#takenOver !== undefined) this.#takenOver.close(error);
    this.#exchange?.broken(
      new HttpError('http1/client-gone', 0, error?.message ?? 'the client closed the connection'),
    );
    this.#exchange = undefined;
    this.#options.onClosed(this);
  }
}

class Exchange implements ServerExchange {
  readonly request: RequestHead;
  readonly hasBody: boolean;
  events: ExchangeEvents | undefined;
  begun = false;
  #body: BodySink | undefined;
  #watcher: ((error: HttpError) => void) | undefined;
  #early: Buffer[] = [];
  #earlyEnd: { readonly trailers: HeaderList | undefined } | undefined;
  readonly #connection: Http1ServerConnection;
  #keepAlive: boolean;
  #requestDone: boolean;
  #responseDone = false;
  #framing: 'none' | 'length' | 'chunked' | 'until-close' = 'none';
  #left = 0;
  #over = false;
  #continueDue: boolean;
  #bodyPaused = false;

  constructor(
    connection: Http1ServerConnection,
    request: RequestHead,
    hasBody: boolean,
    keepAlive: boolean,
  ) {
    this.#connection = connection;
    this.request = request;
    this.hasBody = hasBody;
    this.#keepAlive = keepAlive;
    this.#requestDone = false;
    this.#continueDue = request.expectContinue && hasBody;
  }

  attach(events: ExchangeEvents, body: BodySink): void {
    this.events = events;
    this.#body = body;
    // Only now is the body wanted: whoever was refused never sent it.
    if (this.#continueDue && !this.begun) this.#connection.send(continueAnswer);
    this.#continueDue = false;
    const waited = this.#early.splice(0);
    this.#bodyPaused = false;
    for (const chunk of waited) body.data(chunk);
    if (this.#earlyEnd !== undefined) body.end(this.#earlyEnd.trailers);
    else if (waited.length > 0 && !this.#isBodyPaused()) this.#connection.resume();
  }

  get gone(): boolean {
    return this.#over;
  }

  /** The client has not said all. */
  get awaitsBody(): boolean {
    return this.hasBody && !this.#requestDone;
  }

  watch(gone: ((error: HttpError) => void) | undefined): void {
    this.#watcher = gone;
  }

  /** What comes before anybody listens waits, and the client with it. */
  bodyData(chunk: Buffer): void {
    if (this.#body !== undefined) {
      this.#body.data(chunk);
      return;
    }
    this.#early.push(chunk);
    this.#connection.pause();
  }

  pauseBody(): void {
    if (this.#over) return;
    this.#bodyPaused = true;
    this.#connection.pause();
  }

  resumeBody(): void {
    if (this.#over) return;
    this.#bodyPaused = false;
    this.#connection.resume();
  }

  #isBodyPaused(): boolean {
    return this.#bodyPaused;
  }

  inform({ status, headers }: ResponseHead): void {
    if (this.begun || this.#over || this.request.protocol === 'HTTP/1.0') return;
    this.#connection.send(headOf(status, headers, ''));
  }

  respond({ status, headers }: ResponseHead, hasBody: boolean): void {
    if (this.begun || this.#over) return;
    this.begun = true;
    // A body that was never asked for would have to be read to find the next request.
    if (this.#continueDue || this.#connection.draining) this.#keepAlive = false;
    const framing = this.#frame(status, headers, hasBody);
    const closing =
      this.#keepAlive && this.#framing !== 'until-close'
        ? this.request.protocol === 'HTTP/1.0'
          ? 'connection: keep-alive\r\n'
          : ''
        : 'connection: close\r\n';
    this.#connection.send(headOf(status, headers, framing + closing));
    if (!hasBody) this.#responded();
  }

  #frame(status: number, headers: HeaderList, hasBody: boolean): string {
    const length = headers.get('content-length');
    if (!hasBody) {
      const bodiless = status < 200 || status === 204 || status === 304;
      const described = this.request.method === 'HEAD' || status === 304;
      if (length !== undefined && !described) headers.delete('content-length');
      return bodiless || described ? '' : 'content-length: 0\r\n';
    }
    if (length !== undefined) {
      this.#framing = 'length';
      this.#left = Number(length);
      return '';
    }
    if (this.request.protocol === 'HTTP/1.0') {
      this.#framing = 'until-close';
      this.#keepAlive = false;
      return '';
    }
    this.#framing = 'chunked';
    return 'transfer-encoding: chunked\r\n';
  }

  write(chunk: Buffer): boolean {
    if (this.#over || this.#responseDone || chunk.length === 0) return true;
    if (this.#framing === 'length') {
      this.#left -= chunk.length;
      if (this.#left < 0) {
        this.abort(new Error('the answer is longer than it said'));
        return true;
      }
    }
    if (this.#framing !== 'chunked') return this.#connection.send(chunk);
    this.#connection.send(Buffer.from(`${chunk.length.toString(16)}\r\n`, 'latin1'));
    this.#connection.send(chunk);
    return this.#connection.send(chunkEnd);
  }

  end(trailers?: HeaderList): void {
    if (this.#over || this.#responseDone) return;
    if (this.#framing === 'length' && this.#left > 0) {
      this.abort(new Error('the answer is shorter than it said'));
      return;
    }
    if (this.#framing === 'chunked') {
      const none = trailers === undefined || trailers.count === 0;
      this.#connection.send(
        none ? lastChunk : Buffer.from(`0\r\n${trailers.toLines()}\r\n`, 'latin1'),
      );
    }
    this.#responded();
  }

  upgrade({ status, headers }: ResponseHead): ByteStream | undefined {
    if (this.begun || this.#over) return undefined;
    this.begun = true;
    this.#over = true;
    const lines = `connection: Upgrade\r\nupgrade: ${this.request.upgrade ?? ''}\r\n`;
    this.#connection.send(headOf(status, headers, lines));
    return this.#connection.takeOver();
  }

  abort(error: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.#connection.destroy(error);
  }

  requestEnded(trailers: HeaderList | undefined): void {
    if (this.#over) return;
    this.#requestDone = true;
    if (this.#body === undefined) this.#earlyEnd = { trailers };
    else this.#body.end(trailers);
    this.#settle();
  }

  broken(error: HttpError): void {
    if (this.#over) return;
    this.#over = true;
    if (this.events === undefined) this.#watcher?.(error);
    else this.events.gone(error);
  }

  #responded(): void {
    this.#responseDone = true;
    this.#settle();
  }

  #settle(): void {
    if (this.#over || !this.#responseDone) return;
    if (!this.#requestDone && this.hasBody) {
      // The answer came before the request was read: the rest of it is of no use to anybody.
      this.#over = true;
      this.#connection.exchangeOver(false);
      return;
    }
    if (!this.#requestDone) return;
    this.#over = true;
    this.#connection.exchangeOver(this.#keepAlive && this.#framing !== 'until-close');
  }
}

function headOf(status: number, headers: HeaderList, lines: string): Buffer {
  return Buffer.from(
    `HTTP/1.1 ${status} ${reasonPhrase(status)}\r\n${headers.toLines()}${lines}\r\n`,
    'latin1',
  );
}

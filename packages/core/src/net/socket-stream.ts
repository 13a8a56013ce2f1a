import type { OnReadOpts, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { cork, resetOnClose } from '../native/index.ts';
import type { ByteSink, ByteStream } from './byte-stream.ts';

/**
 * A TCP socket as a `ByteStream`. The socket must allow half-open; an abort leaves as RST. `reads` are those that it was
 * made with, if any.
 */
export function socketStream(socket: Socket, reads?: DirectReads): ByteStream {
  return new SocketStream(socket, true, reads);
}

/** An open TLS connection as a `ByteStream`. TLS has no reset of its own: an abort leaves without its closing alert. */
export function tlsStream(socket: TLSSocket): ByteStream {
  return new SocketStream(socket, false);
}

/** One read of any socket at a time; what it brought is copied out before the next one. */
const readBuffer = Buffer.allocUnsafeSlow(64 * 1024);

/**
 * Takes what a socket reads without the queue of a Node stream between, which costs more than the read itself. Its
 * `options` belong into those with which the socket is made; nothing else may then listen to the socket's data.
 */
export class DirectReads {
  readonly options: OnReadOpts = {
    buffer: readBuffer,
    callback: (bytes) => {
      const chunk = Buffer.allocUnsafe(bytes);
      readBuffer.copy(chunk, 0, 0, bytes);
      if (this.#take === undefined) this.#early.push(chunk);
      else this.#take(chunk);
      return true;
    },
  };
  #take: ((chunk: Buffer) => void) | undefined;
  #early: Buffer[] = [];

  /** Everything from here on, and what has come before. */
  to(take: (chunk: Buffer) => void): void {
    this.#take = take;
    for (const chunk of this.#early.splice(0)) take(chunk);
  }
}

class SocketStream implements ByteStream {
  readonly #socket: Socket;
  readonly #resets: boolean;
  readonly #reads: DirectReads | undefined;
  #error: Error | undefined;

  constructor(socket: Socket, resets: boolean, reads?: DirectReads) {
    this.#socket = socket;
    this.#resets = resets;
    this.#reads = reads;
    // Until somebody attaches, an error must not end the process; it is told on close.
    socket.on('error', (error) => (this.#error = error));
  }

  attach(sink: ByteSink): void {
    const socket = this.#socket;
    if (socket.destroyed) {
      sink.close(this.#error ?? new Error('the connection is closed'));
      return;
    }
    // A proxy that is killed must not look like a peer that has said all: until our end is in order, a close is a reset.
    if (this.#resets) resetOnClose(socket);
    let ended = false;
    if (this.#reads === undefined) socket.on('data', (chunk: Buffer) => sink.data(chunk));
    else this.#reads.to((chunk) => sink.data(chunk));
    socket.on('end', () => {
      ended = true;
      sink.end();
    });
    socket.on('drain', () => sink.drain());
    socket.on('close', () => {
      const inOrder = this.#error === undefined && ended && socket.writableFinished;
      sink.close(inOrder ? undefined : (this.#error ?? new Error('the connection was cut')));
    });
  }

  write(chunk: Buffer): boolean {
    return this.#socket.destroyed || this.#socket.write(chunk);
  }

  writeLatin1(text: string): boolean {
    return this.#socket.destroyed || this.#socket.write(text, 'latin1');
  }

  holdForEnd(): void {
    if (this.#resets) cork(this.#socket);
  }

  end(): void {
    if (this.#socket.destroyed) return;
    if (this.#resets) resetOnClose(this.#socket, false);
    this.#socket.end();
  }

  abort(reason: Error): void {
    this.#error ??= reason;
    const socket = this.#socket;
    if (socket.destroyed) return;
    if (this.#resets && !socket.writableEnded) {
      socket.resetAndDestroy();
      return;
    }
    // libuv refuses to reset what is shutting down, and Node would then never close its handle.
    if (this.#resets) resetOnClose(socket);
    socket.destroy();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }
}

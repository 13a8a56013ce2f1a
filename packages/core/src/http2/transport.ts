import type { TLSSocket } from 'node:tls';
import type { ByteStream } from '../net/byte-stream.ts';
import { socketHighWaterBytes } from './limits.ts';

export interface TransportEvents {
  data(chunk: Buffer): void;
  drain(): void;
  /** Nothing more comes; `error` where it was no orderly end. */
  over(message: string, error?: Error): void;
}

/** What carries a session: a TLS socket, or a stream inside of another session. */
export interface SessionTransport {
  /** Called once. */
  attach(events: TransportEvents): void;
  /** Takes the bytes in any case. */
  write(bytes: Buffer): void;
  /** Nothing waits to be written: whoever waited may write again. */
  readonly hasRoom: boolean;
  /** More is waiting than streams may add to. */
  readonly congested: boolean;
  readonly destroyed: boolean;
  end(): void;
  /** Ends what is over: when the peer has read the rest or has not within the time. */
  drop(afterMs: number, when: 'at-once-if-written' | 'when-peer-ends'): void;
}

/** The fields and events of a TLS socket that a session needs. */
export function socketTransport(socket: TLSSocket): SessionTransport {
  return {
    attach: (events) => {
      socket.on('data', (chunk: Buffer) => events.data(chunk));
      socket.on('drain', () => events.drain());
      socket.on('error', (error) => events.over(error.message, error));
      socket.on('end', () => events.over('the peer ended the connection'));
      socket.on('close', () => events.over('the connection was closed'));
    },
    write: (bytes) => void socket.write(bytes),
    get hasRoom() {
      return !socket.writableNeedDrain;
    },
    get congested() {
      return socket.writableLength > socketHighWaterBytes;
    },
    get destroyed() {
      return socket.destroyed;
    },
    end: () => socket.end(),
    drop: (afterMs, when) => {
      const grace = setTimeout(() => socket.destroy(), afterMs);
      grace.unref();
      socket.once('close', () => clearTimeout(grace));
      if (when === 'when-peer-ends') socket.once('end', () => socket.destroy());
      else if (socket.writableLength === 0) socket.destroy();
    },
  };
}

/** A session on any byte stream. */
export function streamTransport(stream: ByteStream): SessionTransport {
  return new StreamTransport(stream);
}

class StreamTransport implements SessionTransport {
  readonly #stream: ByteStream;
  #room = true;
  #ended = false;
  #peerEnded = false;
  destroyed = false;
  #grace: NodeJS.Timeout | undefined;
  #endsWithPeer = false;

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  attach(events: TransportEvents): void {
    this.#stream.attach({
      data: (chunk) => events.data(chunk),
      drain: () => {
        this.#room = true;
        events.drain();
      },
      end: () => {
        this.#peerEnded = true;
        events.over('the peer ended the connection');
        if (this.#endsWithPeer) this.#destroy();
      },
      close: (error) => {
        this.destroyed = true;
        clearTimeout(this.#grace);
        events.over(error?.message ?? 'the connection was closed', error);
      },
    });
  }

  write(bytes: Buffer): void {
    this.#room = this.#stream.write(bytes);
  }

  get hasRoom(): boolean {
    return this.#room;
  }

  get congested(): boolean {
    return !this.#room;
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#stream.end();
  }

  drop(afterMs: number, when: 'at-once-if-written' | 'when-peer-ends'): void {
    if (this.destroyed) return;
    clearTimeout(this.#grace);
    this.#grace = setTimeout(() => this.#destroy(), afterMs);
    this.#grace.unref();
    if (when === 'when-peer-ends') this.#endsWithPeer = true;
    // Whether all has left cannot be seen; an end in order is what lets it.
    else if (this.#peerEnded && this.#room) this.end();
  }

  #destroy(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    clearTimeout(this.#grace);
    this.#stream.abort(new Error('the session is over'));
  }
}

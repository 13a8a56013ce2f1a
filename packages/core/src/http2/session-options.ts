import type { Http2Error } from './errors.ts';
import type { HeaderBlock } from './hpack-decoder.ts';
import type { SessionLimits } from './limits.ts';

export interface SessionHandlers {
  /**
   * A header block arrived: a request at the server, an answer at the client, or what follows a message. The end of
   * the stream is told to its sink after it.
   */
  headers(streamId: number, block: HeaderBlock, endStream: boolean): void;
  /** A stream is over, for whatever reason; an error where it was no orderly end. */
  streamClosed(streamId: number, error: Http2Error | undefined): void;
  /** The peer takes more streams at once than it did before. */
  room?(): void;
  /** The session takes no new streams any more. */
  goaway(): void;
  closed(error: Http2Error | undefined): void;
}

export interface SessionOptions {
  readonly role: 'client' | 'server';
  /** Tunnels of HBONE have no trailers, and no table of fields is worth it; requests have both. */
  readonly carries: 'tunnels' | 'requests';
  readonly limits: SessionLimits;
  readonly handlers: SessionHandlers;
}

/**
 * One end of a byte stream with half-close, back pressure and a reset that is not an end: what a tunnel's stream
 * is and what a socket can be seen as. Leaner than Node's `Duplex`, which costs several microseconds a message.
 */
export interface ByteStream {
  /** Says who takes what arrives; called once. Until then bytes wait (up to the flow-control window). */
  attach(sink: ByteSink): void;
  /** Takes the bytes in any case; false asks the writer to stop until `drain`. The buffer must not change after. */
  write(chunk: Buffer): boolean;
  /** As `write`, for text in Latin-1; there where it costs less than to make a buffer of it first. */
  writeLatin1?(text: string): boolean;
  /** What is written after this leaves in one piece with the end, which must follow at once; where the transport can. */
  holdForEnd?(): void;
  /** No more will be written; what was written goes out first. */
  end(): void;
  /** Ends both ways at once and lets the other side know that it was no orderly end. */
  abort(reason: Error): void;
  pause(): void;
  resume(): void;
}

/** Takes what a `ByteStream` brings. After `close` nothing comes any more. */
export interface ByteSink {
  data(chunk: Buffer): void;
  /** The other side has written all; nothing was lost. */
  end(): void;
  /** `write` returned false earlier and may go on. */
  drain(): void;
  /** Both directions are over: in order when `error` is absent, cut off otherwise. */
  close(error?: Error): void;
}

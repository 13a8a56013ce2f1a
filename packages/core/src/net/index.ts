export type { ByteSink, ByteStream } from './byte-stream.ts';
export type { Copy, CopyOptions, CopyOutcome, Direction, EndsHere } from './copy.ts';
export { copyBothWays } from './copy.ts';
export { duplexOf } from './duplex.ts';
export { listening } from './listen.ts';
export type { Room } from './make-room.ts';
export { makeRoom } from './make-room.ts';
export { DirectReads, socketStream, tlsStream } from './socket-stream.ts';

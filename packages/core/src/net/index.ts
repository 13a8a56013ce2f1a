export type { ByteSink, ByteStream } from './byte-stream.ts';

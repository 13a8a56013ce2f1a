import type { Duplex } from 'node:stream';
import { constants, createDeflate, createInflate, type Deflate, type Inflate } from 'node:zlib';

/** A SPDY/3.1 stream that the client opened. */
export interface SpdyStream {
  readonly id: number;
  readonly headers: ReadonlyMap<string, string>;
  write(data: Buffer): Promise<void>;
  end(): void;
  onData: (data: Buffer) => void;
  onEnd: () => void;
}

export interface SpdySession {
  close(): void;
  /** Calls the listener when the connection is over. */
  onClose(listener: () => void): void;
}

const names =
  'options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow ' +
  'authorization cache-control connection content-base content-encoding content-language content-length content-location ' +
  'content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match ' +
  'if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range ' +
  'referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get ' +
  'status|200 OK|version|HTTP/1.1|url public set-cookie keep-alive origin';
const values =
  '100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505' +
  '203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden' +
  '404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable' +
  'Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT' +
  'chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,public' +
  'privatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.';

/** The dictionary both sides compress headers with (SPDY protocol draft 3, section 2.6.10.1). */
export const headerDictionary = Buffer.concat([
  ...names
    .split('|')
    .flatMap((part) => (part === '200 OK' ? [part] : part.split(' ')))
    .map((name) => lengthPrefixed(name)),
  Buffer.from(values),
]);

const version = 3;
const types = { synStream: 1, synReply: 2, rstStream: 3, ping: 6, goAway: 7 } as const;
const flagFin = 1;
const maxFrameBytes = 1024 * 1024;
const maxHeaderBytes = 64 * 1024;
const maxStreams = 16;

function lengthPrefixed(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(text));
  return Buffer.concat([length, Buffer.from(text)]);
}

/** Serves SPDY/3.1 on an upgraded connection; a broken frame ends it. */
export function acceptSpdySession(
  socket: Duplex,
  head: Buffer,
  onStream: (stream: SpdyStream) => void,
): SpdySession {
  return new Session(socket, head, onStream);
}

class Session implements SpdySession {
  readonly #socket: Duplex;
  readonly #onStream: (stream: SpdyStream) => void;
  readonly #streams = new Map<number, SpdyStream>();
  readonly #inflate = createInflate({
    dictionary: headerDictionary,
    finishFlush: constants.Z_SYNC_FLUSH,
  });
  readonly #deflate = createDeflate({ dictionary: headerDictionary });
  #buffered = Buffer.alloc(0);
  // Frames are handled one after the other, though headers are unpacked in the background.
  #work: Promise<void> = Promise.resolve();

  constructor(socket: Duplex, head: Buffer, onStream: (stream: SpdyStream) => void) {
    this.#socket = socket;
    this.#onStream = onStream;
    const fail = (): void => void socket.destroy();
    this.#inflate.on('error', fail);
    this.#deflate.on('error', fail);
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('close', () => {
      this.#inflate.close();
      this.#deflate.close();
    });
    if (head.length > 0) this.#receive(head);
  }

  close(): void {
    this.#socket.end(control(types.goAway, 0, Buffer.alloc(8)));
  }

  onClose(listener: () => void): void {
    this.#socket.on('close', listener);
  }

  #receive(chunk: Buffer): void {
    this.#buffered = Buffer.concat([this.#buffered, chunk]);
    while (this.#buffered.length >= 8) {
      const length = this.#buffered.readUInt32BE(4) & 0xff_ffff;
      if (length > maxFrameBytes) {
        this.#socket.destroy();
        return;
      }
      if (this.#buffered.length < 8 + length) return;
      const frame = Buffer.from(this.#buffered.subarray(0, 8 + length));
      this.#buffered = this.#buffered.subarray(8 + length);
      this.#work = this.#work
        .then(() => this.#handle(frame))
        .catch(() => void this.#socket.destroy());
    }
  }

  async #handle(frame: Buffer): Promise<void> {
    const first = frame.readUInt32BE(0);
    const flags = frame.readUInt8(4);
    const payload = frame.subarray(8);
    if ((first & 0x8000_0000) === 0) {
      const stream = this.#streams.get(first);
      if (payload.length > 0) stream?.onData(payload);
      if ((flags & flagFin) !== 0) stream?.onEnd();
      return;
    }
    switch (first & 0xffff) {
      case types.synStream:
        await this.#open(payload, flags);
        break;
      case types.rstStream:
        this.#streams.get(payload.readUInt32BE(0))?.onEnd();
        break;
      case types.ping:
        this.#socket.write(control(types.ping, 0, payload));
        break;
      case types.goAway:
        this.#socket.end();
        break;
      default:
        // SETTINGS, HEADERS and WINDOW_UPDATE change nothing here: Kubernetes clients use no flow control.
        break;
    }
  }

  async #open(payload: Buffer, flags: number): Promise<void> {
    const id = payload.readUInt32BE(0) & 0x7fff_ffff;
    if (this.#streams.size >= maxStreams || this.#streams.has(id)) {
      throw new RangeError('too many streams');
    }
    const socket = this.#socket;
    const stream: SpdyStream = {
      id,
      headers: decodeHeaders(await unpack(this.#inflate, payload.subarray(10))),
      write: (data) =>
        new Promise((resolve) => socket.write(dataFrame(id, 0, data), () => resolve())),
      end: () => void socket.write(dataFrame(id, flagFin, Buffer.alloc(0))),
      onData: () => undefined,
      onEnd: () => undefined,
    };
    this.#streams.set(id, stream);
    const reply = Buffer.alloc(4);
    reply.writeUInt32BE(id);
    const noHeaders = await pack(this.#deflate, Buffer.alloc(4));
    socket.write(control(types.synReply, 0, Buffer.concat([reply, noHeaders])));
    this.#onStream(stream);
    if ((flags & flagFin) !== 0) stream.onEnd();
  }
}

function control(type: number, flags: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt16BE(0x8000 | version, 0);
  head.writeUInt16BE(type, 2);
  head.writeUInt32BE(payload.length, 4);
  head.writeUInt8(flags, 4);
  return Buffer.concat([head, payload]);
}

function dataFrame(id: number, flags: number, data: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(id, 0);
  head.writeUInt32BE(data.length, 4);
  head.writeUInt8(flags, 4);
  return Buffer.concat([head, data]);
}

/** Unpacks one header block with the session's state; a block that grows beyond reason throws. */
async function unpack(inflate: Inflate, block: Buffer): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  const collect = (part: Buffer): void => {
    size += part.length;
    if (size <= maxHeaderBytes) parts.push(part);
  };
  inflate.on('data', collect);
  await new Promise<void>((resolve, reject) =>
    inflate.write(block, (error) => (error ? reject(error) : resolve())),
  );
  await new Promise<void>((resolve) => inflate.flush(constants.Z_SYNC_FLUSH, () => resolve()));
  inflate.off('data', collect);
  if (size > maxHeaderBytes) throw new RangeError('header block is too large');
  return Buffer.concat(parts);
}

async function pack(deflate: Deflate, block: Buffer): Promise<Buffer> {
  const parts: Buffer[] = [];
  const collect = (part: Buffer): void => void parts.push(part);
  deflate.on('data', collect);
  deflate.write(block);
  await new Promise<void>((resolve) => deflate.flush(constants.Z_SYNC_FLUSH, () => resolve()));
  deflate.off('data', collect);
  return Buffer.concat(parts);
}

function decodeHeaders(block: Buffer): Map<string, string> {
  const headers = new Map<string, string>();
  let at = 4;
  const next = (): string => {
    const length = block.readUInt32BE(at);
    const text = block.toString('utf8', at + 4, at + 4 + length);
    at += 4 + length;
    return text;
  };
  for (let count = block.readUInt32BE(0); count > 0; count -= 1)
    headers.set(next().toLowerCase(), next());
  return headers;
}

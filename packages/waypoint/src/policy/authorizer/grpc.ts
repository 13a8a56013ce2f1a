import type { SocketAddress } from '@ambit/api';
import { noChanges } from '@ambit/api';
import { MeshError } from '@ambit/core';
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import type { GrpcClient } from '../../client/grpc.ts';
import type { Check, GrpcAuthorizer, Verdict } from './check.ts';
import { maxAnswerBytes } from './check.ts';
import { isValue, mayWrite } from './fields.ts';

/** Asks Envoy's authorization service (envoy.service.auth.v3). */
export async function askOverGrpc(
  client: GrpcClient,
  provider: GrpcAuthorizer,
  check: Check,
  signal: AbortSignal,
): Promise<Verdict> {
  const answer = await client.unary({
    address: provider.address,
    path: '/envoy.service.auth.v3.Authorization/Check',
    message: encodeCheck(check, provider.body?.packAsBytes === true, Date.now()),
    timeoutMs: provider.timeoutMs,
    maxAnswerBytes,
    signal,
  });
  return decodeVerdict(answer);
}

type Fill = (writer: BinaryWriter) => void;

function message(writer: BinaryWriter, number: number, fill: Fill): void {
  writer.tag(number, WireType.LengthDelimited).fork();
  fill(writer);
  writer.join();
}

function text(writer: BinaryWriter, number: number, value: string): void {
  if (value !== '') writer.tag(number, WireType.LengthDelimited).string(value);
}

/** A CheckRequest; the numbers are those of envoy/service/auth/v3/attribute_context.proto. */
export function encodeCheck(check: Check, packAsBytes: boolean, nowMs: number): Uint8Array {
  const { downstream, own } = check;
  const writer = new BinaryWriter();
  message(writer, 1, (attributes) => {
    message(attributes, 1, (peer) => encodePeer(peer, downstream.source, downstream.peer.uri));
    message(attributes, 2, (peer) => encodePeer(peer, downstream.local, own));
    message(attributes, 4, (request) => {
      message(request, 1, (time) => {
        time.tag(1, WireType.Varint).int64(Math.floor(nowMs / 1000));
        time.tag(2, WireType.Varint).int32((nowMs % 1000) * 1_000_000);
      });
      message(request, 2, (http) => encodeHttp(http, check, packAsBytes));
    });
  });
  return writer.finish();
}

function encodePeer(writer: BinaryWriter, { ip, port }: SocketAddress, principal: string): void {
  message(writer, 1, (address) => {
    message(address, 1, (socket) => {
      text(socket, 2, ip);
      socket.tag(3, WireType.Varint).uint32(port);
    });
  });
  text(writer, 4, principal);
}

function encodeHttp(
  writer: BinaryWriter,
  { request, headers, body }: Check,
  packAsBytes: boolean,
): void {
  text(writer, 1, headers.get('x-request-id') ?? '');
  text(writer, 2, request.method);
  const fields = new Map<string, string>([
    [':authority', request.authority],
    [':method', request.method],
    [':path', request.path],
    [':scheme', request.scheme],
  ]);
  for (const [name, value] of headers) {
    const before = fields.get(name);
    fields.set(name, before === undefined ? value : `${before},${value}`);
  }
  if (body !== undefined) fields.set('x-envoy-auth-partial-body', String(!body.whole));
  for (const [name, value] of fields) {
    message(writer, 3, (entry) => {
      text(entry, 1, name);
      text(entry, 2, value);
    });
  }
  text(writer, 4, request.path);
  text(writer, 5, request.authority);
  text(writer, 6, request.scheme);
  const length = Number(headers.get('content-length') ?? '-1');
  writer.tag(9, WireType.Varint).int64(Number.isSafeInteger(length) ? length : -1);
  text(writer, 10, request.protocol);
  if (body === undefined || body.bytes.length === 0) return;
  if (packAsBytes) writer.tag(12, WireType.LengthDelimited).bytes(body.bytes);
  else text(writer, 11, body.bytes.toString());
}

/** What of a message is read: the numbers that are known to be of the right type, everything else is skipped. */
function read(bytes: Uint8Array, known: ReadonlyMap<number, (reader: BinaryReader) => void>): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    const take = known.get(number);
    if (take === undefined) reader.skip(type, number);
    else take(reader);
  }
}

/** A CheckResponse. Throws where it is none. */
export function decodeVerdict(bytes: Uint8Array): Verdict {
  const answer: { code?: number; ok?: Uint8Array; denied?: Uint8Array } = {};
  const status = new Map([[1, (inner: BinaryReader) => void (answer.code = inner.int32())]]);
  try {
    read(
      bytes,
      new Map([
        [
          1,
          (reader: BinaryReader) => {
            answer.code = 0;
            read(reader.bytes(), status);
          },
        ],
        [2, (reader: BinaryReader) => void (answer.denied = reader.bytes())],
        [3, (reader: BinaryReader) => void (answer.ok = reader.bytes())],
      ]),
    );
    // An empty message is no answer: whoever means yes says so.
    if (answer.code === undefined) {
      throw new MeshError('authorizer/malformed', 'the answer has no status');
    }
    return answer.code === 0
      ? decodeOk(answer.ok ?? new Uint8Array())
      : decodeDenied(answer.denied);
  } catch (error) {
    if (error instanceof MeshError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new MeshError('authorizer/malformed', `no CheckResponse: ${why}`);
  }
}

interface Option {
  readonly name: string;
  readonly value: string;
  readonly append: boolean;
}

function decodeOk(bytes: Uint8Array): Verdict {
  const request: Option[] = [];
  const response: Option[] = [];
  const remove: string[] = [];
  read(
    bytes,
    new Map([
      [2, (reader: BinaryReader) => void request.push(...decodeOption(reader.bytes()))],
      [5, (reader: BinaryReader) => void remove.push(reader.string().toLowerCase())],
      [6, (reader: BinaryReader) => void response.push(...decodeOption(reader.bytes()))],
    ]),
  );
  const entries = (options: readonly Option[], append: boolean) =>
    options.filter((one) => one.append === append).map(({ name, value }) => [name, value] as const);
  return {
    kind: 'allow',
    request: {
      remove: remove.filter(mayWrite),
      set: entries(request, false),
      add: entries(request, true),
    },
    response:
      response.length === 0
        ? noChanges
        : { remove: [], set: entries(response, false), add: entries(response, true) },
  };
}

const defaultDenial = 403;

function decodeDenied(bytes: Uint8Array | undefined): Verdict {
  let status = defaultDenial;
  let body = '';
  const headers: (readonly [string, string])[] = [];
  read(
    bytes ?? new Uint8Array(),
    new Map([
      [
        1,
        (reader: BinaryReader) =>
          read(
            reader.bytes(),
            new Map([[1, (inner: BinaryReader) => void (status = inner.int32())]]),
          ),
      ],
      [
        2,
        (reader: BinaryReader) => {
          for (const { name, value } of decodeOption(reader.bytes())) headers.push([name, value]);
        },
      ],
      [3, (reader: BinaryReader) => void (body = reader.string())],
    ]),
  );
  const isAnswer = status >= 200 && status <= 599;
  return { kind: 'deny', status: isAnswer ? status : defaultDenial, headers, body };
}

/** A HeaderValueOption; none where it is not one that may be written. */
function decodeOption(bytes: Uint8Array): readonly Option[] {
  let name = '';
  let value = '';
  let append: boolean | undefined;
  let action = 0;
  read(
    bytes,
    new Map([
      [
        1,
        (reader: BinaryReader) =>
          read(
            reader.bytes(),
            new Map([
              [1, (inner: BinaryReader) => void (name = inner.string().toLowerCase())],
              [2, (inner: BinaryReader) => void (value = inner.string())],
              [
                3,
                (inner: BinaryReader) =>
                  void (value = Buffer.from(inner.bytes()).toString('latin1')),
              ],
            ]),
          ),
      ],
      [
        2,
        (reader: BinaryReader) => {
          append = false;
          read(
            reader.bytes(),
            new Map([[1, (inner: BinaryReader) => void (append = inner.bool())]]),
          );
        },
      ],
      [3, (reader: BinaryReader) => void (action = reader.int32())],
    ]),
  );
  if (!mayWrite(name) || !isValue(value)) return [];
  // Of the newer field 0 means both nothing and append; in this message nothing means to overwrite.
  return [{ name, value, append: append ?? action === 1 }];
}

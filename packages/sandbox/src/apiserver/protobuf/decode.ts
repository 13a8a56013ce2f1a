import { badRequest } from '../errors.ts';
import type { JsonObject } from '../object.ts';
import { fieldNumbers } from './field-numbers.ts';

/** The media type that newer kubectl sends objects of Kubernetes' own kinds in. */
export const protobufType = 'application/vnd.kubernetes.protobuf';

const magic = Buffer.from('k8s\0');
const maxDepth = 64;

interface Field {
  readonly name: string;
  /** As field-numbers.ts writes it. */
  readonly type: string;
}

/** One member on the wire: a number, or the bytes of a string or message. */
interface Member {
  readonly number: number;
  readonly value: bigint | Buffer;
}

const homes = new Map([
  ['v1', 'core'],
  ['apps/v1', 'apps'],
  ['batch/v1', 'batch'],
  ['autoscaling/v2', 'autoscaling'],
  ['autoscaling/v1', 'scale'],
  ['policy/v1', 'policy'],
  ['networking.k8s.io/v1', 'networking'],
  ['discovery.k8s.io/v1', 'discovery'],
  ['coordination.k8s.io/v1', 'coordination'],
  ['events.k8s.io/v1', 'events'],
  ['rbac.authorization.k8s.io/v1', 'rbac'],
  ['authentication.k8s.io/v1', 'authentication'],
  ['authorization.k8s.io/v1', 'authorization'],
  ['admissionregistration.k8s.io/v1', 'admission'],
  ['meta.k8s.io/v1', 'meta'],
]);
const messages = new Map<string, ReadonlyMap<number, Field>>();

/**
 * Reads an object in Kubernetes' protobuf envelope: four bytes `k8s\0`, then `runtime.Unknown` with kind and message.
 * @throws ApiError BadRequest for what is not one, or of a kind that is not known
 */
export function decodeProtobuf(body: Buffer): JsonObject {
  if (!body.subarray(0, magic.length).equals(magic))
    throw malformed('it does not begin with k8s\\0');
  const envelope = members(body.subarray(magic.length));
  const type = members(bytesOf(envelope, 1));
  const apiVersion = bytesOf(type, 1).toString('utf8');
  const kind = bytesOf(type, 2).toString('utf8');
  const message =
    kind === 'DeleteOptions' ? 'meta.DeleteOptions' : `${homes.get(apiVersion) ?? ''}.${kind}`;
  if (fieldsOf(message) === undefined)
    throw malformed(`${apiVersion} ${kind} is not known in protobuf: send JSON`);
  return { apiVersion, kind, ...decodeMessage(bytesOf(envelope, 2), message, 0) };
}

function malformed(why: string): Error {
  return badRequest(`the protobuf body of the request cannot be read: ${why}`);
}

function bytesOf(from: readonly Member[], number: number): Buffer {
  const found = from.findLast((member) => member.number === number)?.value;
  return Buffer.isBuffer(found) ? found : Buffer.alloc(0);
}

function fieldsOf(message: string): ReadonlyMap<number, Field> | undefined {
  const known = messages.get(message);
  if (known !== undefined) return known;
  const text = Object.hasOwn(fieldNumbers, message) ? fieldNumbers[message] : undefined;
  if (text === undefined) return undefined;
  const fields = text.split(' ').map((part): [number, Field] => {
    const [number, name = '', type = ''] = part.split(':');
    return [Number(number), { name, type }];
  });
  const parsed = new Map(text === '' ? [] : fields);
  messages.set(message, parsed);
  return parsed;
}

function decodeMessage(body: Buffer, message: string, depth: number): JsonObject {
  if (depth > maxDepth) throw malformed(`it is nested deeper than ${maxDepth}`);
  const fields = fieldsOf(message);
  const object = new Map<string, unknown>();
  for (const { number, value } of members(body)) {
    const field = fields?.get(number);
    if (field === undefined) continue;
    const { name, type } = field;
    if (type.startsWith('+')) {
      const list = (object.get(name) ?? []) as unknown[];
      list.push(decodeValue(value, type.slice(1), depth));
      object.set(name, list);
    } else if (type.startsWith('%')) {
      const map = (object.get(name) ?? new Map<string, unknown>()) as Map<string, unknown>;
      const entry = members(asBytes(value));
      const given = entry.findLast((member) => member.number === 2)?.value ?? Buffer.alloc(0);
      map.set(bytesOf(entry, 1).toString('utf8'), decodeValue(given, type.slice(1), depth));
      object.set(name, map);
    } else if (type.startsWith('^')) {
      const inner = decodeMessage(asBytes(value), type.replace(/^\^\*?=/, ''), depth + 1);
      for (const [key, one] of Object.entries(inner)) object.set(key, one);
    } else setUnlessEmpty(object, field, decodeValue(value, type.replace('*', ''), depth));
  }
  return Object.fromEntries(
    [...object].map(([key, value]) => [
      key,
      value instanceof Map ? (Object.fromEntries(value) as unknown) : value,
    ]),
  );
}

/** Go writes fields that are not pointers even where they hold nothing; its JSON leaves those out. */
function setUnlessEmpty(object: Map<string, unknown>, { name, type }: Field, value: unknown): void {
  const empty =
    value === '' || value === 0 || value === false || value === null || isEmptyObject(value);
  if (!empty || (type.startsWith('*') && value !== null)) object.set(name, value);
}

function isEmptyObject(value: unknown): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.keys(value).length === 0
  );
}

function decodeValue(value: bigint | Buffer, type: string, depth: number): unknown {
  switch (type) {
    case 'i':
      return Number(BigInt.asIntN(64, asNumber(value)));
    case 'b':
      return asNumber(value) !== 0n;
    case 's':
      return asBytes(value).toString('utf8');
    case 'x':
      return asBytes(value).toString('base64');
    case 'R':
      return rawJson(bytesOf(members(asBytes(value)), 1));
    case 'Q':
      return bytesOf(members(asBytes(value)), 1).toString('utf8');
    case 'L':
      return members(asBytes(value)).map((member) => asBytes(member.value).toString('utf8'));
    case 'T':
    case 'U':
      return time(members(asBytes(value)), type === 'U');
    case 'D':
      return `${Number(BigInt.asIntN(64, numberOf(members(asBytes(value)), 1))) / 1e9}s`;
    case 'I':
      return intOrString(members(asBytes(value)));
    default:
      return decodeMessage(asBytes(value), type.slice(1), depth + 1);
  }
}

function rawJson(raw: Buffer): unknown {
  if (raw.length === 0) return null;
  try {
    return JSON.parse(raw.toString('utf8')) as unknown;
  } catch {
    throw malformed('a raw field does not hold JSON');
  }
}

function time(from: readonly Member[], micro: boolean): string | null {
  if (from.length === 0) return null;
  const seconds = Number(BigInt.asIntN(64, numberOf(from, 1)));
  const micros = Math.floor(Number(numberOf(from, 2)) / 1000);
  const whole = new Date(seconds * 1000);
  // The zero time of Go, the year 1, stands for no time.
  if (Number.isNaN(whole.getTime()) || seconds < -62_135_596_000) return null;
  const text = whole.toISOString().slice(0, 19);
  return micro ? `${text}.${String(micros).padStart(6, '0')}Z` : `${text}Z`;
}

function intOrString(from: readonly Member[]): number | string {
  return numberOf(from, 1) === 0n
    ? Number(BigInt.asIntN(32, numberOf(from, 2)))
    : bytesOf(from, 3).toString('utf8');
}

function numberOf(from: readonly Member[], number: number): bigint {
  const found = from.findLast((member) => member.number === number)?.value;
  return typeof found === 'bigint' ? found : 0n;
}

function asBytes(value: bigint | Buffer): Buffer {
  if (typeof value === 'bigint') throw malformed('a number stands where text or a message belongs');
  return value;
}

function asNumber(value: bigint | Buffer): bigint {
  if (typeof value !== 'bigint') throw malformed('text stands where a number belongs');
  return value;
}

function members(body: Buffer): Member[] {
  const found: Member[] = [];
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = body[at++];
      if (byte === undefined) break;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw malformed('a number ends too soon or is too long');
  };
  const take = (length: number): Buffer => {
    if (length > body.length - at) throw malformed('a member is longer than what is there');
    at += length;
    return body.subarray(at - length, at);
  };
  while (at < body.length) {
    const tag = varint();
    const number = Number(tag >> 3n);
    switch (Number(tag & 7n)) {
      case 0:
        found.push({ number, value: varint() });
        break;
      case 1:
        found.push({ number, value: take(8).readBigUInt64LE() });
        break;
      case 2:
        found.push({ number, value: take(Number(varint())) });
        break;
      case 5:
        found.push({ number, value: BigInt(take(4).readUInt32LE()) });
        break;
      default:
        throw malformed(`wire type ${Number(tag & 7n)} is not in use`);
    }
  }
  return found;
}

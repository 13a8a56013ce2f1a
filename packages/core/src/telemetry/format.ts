import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';
import { escapeControls } from '../observe/logger.ts';
import type { AccessEntry, Read } from './access-entry.ts';
import { absent, cut, given, varying } from './access-entry.ts';
import { addressFields } from './address-fields.ts';
import { compileKnown, shortened } from './operators.ts';

export type RenderLine = (entry: AccessEntry) => string;

/** What Istio logs where nothing else is asked for. */
export const defaultTextFormat =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% ' +
  '%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ' +
  '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ' +
  '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ' +
  '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% ' +
  '%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ' +
  '%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n';

export const defaultJsonFormat: ReadonlyMap<string, string> = new Map([
  ['start_time', '%START_TIME%'],
  ['method', '%REQ(:METHOD)%'],
  ['path', '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%'],
  ['protocol', '%PROTOCOL%'],
  ['response_code', '%RESPONSE_CODE%'],
  ['response_flags', '%RESPONSE_FLAGS%'],
  ['response_code_details', '%RESPONSE_CODE_DETAILS%'],
  ['connection_termination_details', '%CONNECTION_TERMINATION_DETAILS%'],
  ['upstream_transport_failure_reason', '%UPSTREAM_TRANSPORT_FAILURE_REASON%'],
  ['bytes_received', '%BYTES_RECEIVED%'],
  ['bytes_sent', '%BYTES_SENT%'],
  ['duration', '%DURATION%'],
  ['upstream_service_time', '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%'],
  ['x_forwarded_for', '%REQ(X-FORWARDED-FOR)%'],
  ['user_agent', '%REQ(USER-AGENT)%'],
  ['request_id', '%REQ(X-REQUEST-ID)%'],
  ['authority', '%REQ(:AUTHORITY)%'],
  ['upstream_host', '%UPSTREAM_HOST%'],
  ['upstream_cluster', '%UPSTREAM_CLUSTER%'],
  ['upstream_local_address', '%UPSTREAM_LOCAL_ADDRESS%'],
  ['downstream_local_address', '%DOWNSTREAM_LOCAL_ADDRESS%'],
  ['downstream_remote_address', '%DOWNSTREAM_REMOTE_ADDRESS%'],
  ['requested_server_name', '%REQUESTED_SERVER_NAME%'],
  ['route_name', '%ROUTE_NAME%'],
]);

type Segment =
  | { readonly kind: 'literal'; readonly text: string }
  | { readonly kind: 'operator'; readonly read: Read };

const maxValueChars = 2048;

/** A piece of a line: what stands there always, or what is read and how it is written. */
type Piece =
  | { readonly kind: 'literal'; readonly text: string }
  | { readonly kind: 'value'; readonly read: Read; readonly write: WriteValue }
  | { readonly kind: 'whole'; readonly render: RenderLine };

type WriteValue = (value: string | number | undefined) => string;

/**
 * Compiles one of Envoy's format strings, once, for every request to come. As with Istio a missing line end is added;
 * line ends within the format become spaces, for one event is one line.
 */
export function compileFormat(text: string): Result<RenderLine, string> {
  const segments = parse(text.replace(/\r?\n$/, ''));
  if (!segments.ok) return segments;
  const pieces = segments.value.map((segment): Piece =>
    segment.kind === 'operator'
      ? { kind: 'value', read: segment.read, write: textValue }
      : { kind: 'literal', text: oneLine(segment.text) },
  );
  return ok(compilePieces([...pieces, { kind: 'literal', text: '\n' }]));
}

/**
 * Compiles one of Envoy's format dictionaries to a line of JSON. A label that is one operator keeps its type, with
 * `null` for what is absent; any other is text.
 */
export function compileJsonFormat(labels: ReadonlyMap<string, string>): Result<RenderLine, string> {
  const pieces: Piece[] = [];
  for (const [label, format] of labels) {
    const segments = parse(format);
    if (!segments.ok) return err(`${label}: ${segments.error}`);
    const before = `${pieces.length === 0 ? '{' : ','}${jsonText(label)}:`;
    pieces.push({ kind: 'literal', text: before }, jsonPiece(segments.value));
  }
  if (pieces.length === 0) return ok(() => '{}\n');
  return ok(compilePieces([...pieces, { kind: 'literal', text: '}\n' }]));
}

function jsonPiece(segments: readonly Segment[]): Piece {
  const [first] = segments;
  if (segments.length === 1 && first?.kind === 'operator') {
    return { kind: 'value', read: first.read, write: jsonValue };
  }
  const render = (entry: AccessEntry): string => {
    let text = '';
    for (const segment of segments) {
      text += segment.kind === 'literal' ? segment.text : plainValue(segment.read(entry));
    }
    return jsonText(text);
  };
  return { kind: 'whole', render };
}

/** One function for a line; pieces in a row that are mostly as they were in the line before are put together once. */
function compilePieces(pieces: readonly Piece[]): RenderLine {
  const parts: RenderLine[] = [];
  let run: Exclude<Piece, { readonly kind: 'whole' }>[] = [];
  const endRun = (): void => {
    if (run.length > 0) parts.push(renderRun(run));
    run = [];
  };
  for (const piece of pieces) {
    if (piece.kind === 'literal' || (piece.kind === 'value' && piece.read.varies !== true)) {
      run.push(piece);
      continue;
    }
    endRun();
    if (piece.kind === 'whole') parts.push(piece.render);
    else parts.push(renderVarying(piece));
  }
  endRun();
  return (entry) => {
    let line = '';
    for (const part of parts) line += part(entry);
    return line;
  };
}

/** A time or a number of bytes often is what it was in the line before, too. */
function renderVarying({ read, write }: Extract<Piece, { readonly kind: 'value' }>): RenderLine {
  let last: string | number | undefined;
  let text = write(undefined);
  return (entry) => {
    const value = read(entry);
    if (value === last) return text;
    last = value;
    text = write(value);
    return text;
  };
}

function renderRun(run: readonly Exclude<Piece, { readonly kind: 'whole' }>[]): RenderLine {
  const values = run.filter((piece) => piece.kind === 'value');
  const join = (written: readonly string[]): string => {
    let at = 0;
    return run
      .map((piece) => (piece.kind === 'literal' ? piece.text : (written[at++] ?? '')))
      .join('');
  };
  if (values.length === 0) {
    const text = join([]);
    return () => text;
  }
  const reads = values.map(({ read }) => read);
  const last: (string | number | undefined)[] = values.map(() => undefined);
  const written = values.map(({ write }) => write(undefined));
  let text = join(written);
  return (entry) => {
    let changed = false;
    for (let at = 0; at < reads.length; at += 1) {
      const value = reads[at]?.(entry);
      if (value === last[at]) continue;
      changed = true;
      last[at] = value;
      written[at] = values[at]?.write(value) ?? '';
    }
    if (changed) text = join(written);
    return text;
  };
}

const operator = /%([A-Za-z0-9_]+)(?:\(([^)]*)\))?(?::(\d{1,9}))?%/y;

function parse(format: string): Result<readonly Segment[], string> {
  const segments: Segment[] = [];
  let literal = '';
  let at = 0;
  while (at < format.length) {
    const next = format.indexOf('%', at);
    literal += format.slice(at, next === -1 ? undefined : next);
    if (next === -1) break;
    if (format[next + 1] === '%') {
      literal += '%';
      at = next + 2;
      continue;
    }
    operator.lastIndex = next;
    const found = operator.exec(format);
    if (found === null) {
      return err(`no operator at ${JSON.stringify(format.slice(next, next + 40))}`);
    }
    const [whole, name = '', argument, length] = found;
    const read = compileOperator(name, argument, length === undefined ? undefined : Number(length));
    if (!read.ok) return read;
    if (literal !== '') segments.push({ kind: 'literal', text: literal });
    literal = '';
    segments.push({ kind: 'operator', read: read.value });
    at = next + whole.length;
  }
  if (literal !== '') segments.push({ kind: 'literal', text: literal });
  return ok(segments);
}

const fields: ReadonlyMap<string, Read> = new Map<string, Read>([
  ['PROTOCOL', (entry) => entry.protocol],
  ['RESPONSE_CODE', (entry) => entry.responseCode],
  ['RESPONSE_FLAGS', (entry) => given(entry.responseFlags)],
  ['CONNECTION_TERMINATION_DETAILS', (entry) => given(entry.connectionTerminationDetails)],
  ['UPSTREAM_TRANSPORT_FAILURE_REASON', (entry) => joined(entry.upstreamTransportFailureReason)],
  ['BYTES_RECEIVED', varying((entry) => entry.bytesReceived)],
  ['BYTES_SENT', varying((entry) => entry.bytesSent)],
  ['DURATION', varying((entry) => Math.round(entry.durationMs))],
  ['UPSTREAM_HOST', (entry) => given(entry.upstreamHost)],
  ['UPSTREAM_CLUSTER', (entry) => given(entry.upstreamCluster)],
  ['DOWNSTREAM_PEER_URI_SAN', (entry) => given(entry.downstreamPeerUri)],
  // Of a stranger and unquoted in the default format: like Envoy, nothing that no host name has.
  [
    'REQUESTED_SERVER_NAME',
    (entry) => given(entry.requestedServerName)?.replace(/[^A-Za-z0-9.\-]/g, '_'),
  ],
  ['ROUTE_NAME', (entry) => given(entry.routeName)],
  ...addressFields,
]);

function compileOperator(
  name: string,
  argument: string | undefined,
  length: number | undefined,
): Result<Read, string> {
  if (name === 'REQ' || name === 'RESP' || name === 'REQ_WITHOUT_QUERY') {
    return compileHeader(name, argument, length);
  }
  const known = compileKnown(name, argument, length);
  if (known !== undefined) return known;
  if (length !== undefined) return err(`operator ${name} takes no length`);
  if (name === 'START_TIME') return compileStartTime(argument);
  if (name === 'RESPONSE_CODE_DETAILS') return compileDetails(argument);
  const read = fields.get(name);
  if (read === undefined) return err(`unknown operator ${name}`);
  return argument === undefined ? ok(read) : err(`operator ${name} takes no argument`);
}

/** Envoy keeps the spaces only of who asks for them: the field has no quotes in the default format. */
function compileDetails(argument: string | undefined): Result<Read, string> {
  if (argument === undefined) return ok((entry) => joined(entry.responseCodeDetails));
  return argument === 'ALLOW_WHITESPACES'
    ? ok((entry) => given(entry.responseCodeDetails))
    : err(`operator RESPONSE_CODE_DETAILS does not know ${JSON.stringify(argument)}`);
}

const headerName = /^:?[A-Za-z0-9!#$&'*+.^_`|~-]+$/;

function compileHeader(
  operatorName: 'REQ' | 'RESP' | 'REQ_WITHOUT_QUERY',
  argument: string | undefined,
  length: number | undefined,
): Result<Read, string> {
  const names = argument?.split('?') ?? [];
  const [name, other] = names;
  if (name === undefined || names.length > 2 || !names.every((each) => headerName.test(each))) {
    return err(`operator ${operatorName} needs one header's name, or two: ${argument ?? 'none'}`);
  }
  const readOne = operatorName === 'RESP' ? responseValue : requestValue;
  const first = readOne(name.toLowerCase());
  const second = other === undefined ? undefined : readOne(other.toLowerCase());
  const both: Read = second === undefined ? first : (entry) => first(entry) ?? second(entry);
  const bare: Read =
    operatorName === 'REQ_WITHOUT_QUERY' ? (entry) => beforeQuery(both(entry)) : both;
  const read = length === undefined ? bare : shortened(bare, length);
  const varies = names.some((each) => varyingHeaders.has(each.toLowerCase()));
  return ok(varies ? varying(read) : read);
}

function beforeQuery(value: string | number | undefined): string | number | undefined {
  return typeof value === 'string' ? value.split('?', 1)[0] : value;
}

const varyingHeaders: ReadonlySet<string> = new Set([
  'x-request-id',
  'x-envoy-upstream-service-time',
  'traceparent',
]);

/** What the proxy knows itself is never taken from a header, which a stranger may have sent. */
function requestValue(name: string): Read {
  switch (name) {
    case ':method':
      return (entry) => entry.method;
    case ':path':
      return (entry) => entry.path;
    case ':authority':
    case 'host':
      return (entry) => entry.authority;
    case 'x-envoy-original-path':
      return (entry) => entry.originalPath;
    default:
      return (entry) => entry.requestHeader(name);
  }
}

function responseValue(name: string): Read {
  switch (name) {
    case ':status':
      return (entry) => String(entry.responseCode);
    case 'x-envoy-upstream-service-time':
      // A header, hence text in JSON too.
      return ({ upstreamServiceTimeMs: time }) =>
        time === undefined ? undefined : String(Math.round(time));
    default:
      return (entry) => entry.responseHeader(name);
  }
}

function compileStartTime(argument: string | undefined): Result<Read, string> {
  const format =
    argument === undefined || argument === ''
      ? ok((time: Date) => time.toISOString())
      : compileTime(argument);
  if (!format.ok) return format;
  // Requests come many to a millisecond.
  let knownMs = Number.NaN;
  let known = '';
  const read: Read = ({ startTimeMs }) => {
    if (startTimeMs === knownMs) return known;
    known = format.value(new Date(startTimeMs));
    knownMs = startTimeMs;
    return known;
  };
  return ok(varying(read));
}

const days = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const months = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];

type TimePart = (time: Date) => string;

const two = (value: number): string => String(value).padStart(2, '0');
const dayOf = (time: Date): string => days[time.getUTCDay()] ?? '';
const monthOf = (time: Date): string => months[time.getUTCMonth()] ?? '';
const year: TimePart = (time) => String(time.getUTCFullYear());
const month: TimePart = (time) => two(time.getUTCMonth() + 1);
const dayOfMonth: TimePart = (time) => two(time.getUTCDate());
const hour: TimePart = (time) => two(time.getUTCHours());
const minute: TimePart = (time) => two(time.getUTCMinutes());
const second: TimePart = (time) => two(time.getUTCSeconds());
const fraction = (time: Date, digits: number): string =>
  String(time.getUTCMilliseconds()).padStart(3, '0').padEnd(9, '0').slice(0, digits);

const timeParts: ReadonlyMap<string, TimePart> = new Map<string, TimePart>([
  ['Y', year],
  ['y', (time) => two(time.getUTCFullYear() % 100)],
  ['m', month],
  ['d', dayOfMonth],
  ['e', (time) => String(time.getUTCDate()).padStart(2, ' ')],
  ['H', hour],
  ['I', (time) => two(time.getUTCHours() % 12 || 12)],
  ['M', minute],
  ['S', second],
  ['p', (time) => (time.getUTCHours() < 12 ? 'AM' : 'PM')],
  ['a', (time) => dayOf(time).slice(0, 3)],
  ['A', dayOf],
  ['b', (time) => monthOf(time).slice(0, 3)],
  ['B', monthOf],
  ['F', (time) => `${year(time)}-${month(time)}-${dayOfMonth(time)}`],
  ['T', (time) => `${hour(time)}:${minute(time)}:${second(time)}`],
  ['s', (time) => String(Math.floor(time.getTime() / 1000))],
  ['f', (time) => fraction(time, 9)],
  ['z', () => '+0000'],
  ['Ez', () => '+00:00'],
  ['Z', () => 'UTC'],
]);

/** The part of strftime that Envoy's users write, with its fractions (`%3f`, `%E3S`), always in UTC. */
function compileTime(format: string): Result<(time: Date) => string, string> {
  const parts: TimePart[] = [];
  for (const [whole, specifier, digits] of format.matchAll(
    /%((?:([1-9])f|E([1-9])S|Ez|.)?)|[^%]+/gsu,
  )) {
    if (specifier === undefined) {
      parts.push(() => whole);
      continue;
    }
    const part = specifier === '%' ? () => '%' : timePart(specifier, digits);
    if (part === undefined) return err(`operator START_TIME does not know ${whole}`);
    parts.push(part);
  }
  return ok((time) => parts.map((part) => part(time)).join(''));
}

function timePart(specifier: string, digits: string | undefined): TimePart | undefined {
  if (digits !== undefined) return (time) => fraction(time, Number(digits));
  const seconds = /^E([1-9])S$/.exec(specifier)?.[1];
  if (seconds === undefined) return timeParts.get(specifier);
  return (time) => `${second(time)}.${fraction(time, Number(seconds))}`;
}

function joined(text: string | undefined): string | undefined {
  const value = given(text);
  return value?.includes(' ') === true ? value.replaceAll(' ', '_') : value;
}

function oneLine(literal: string): string {
  return literal.replace(/[\n\v\f\r\u0085\u2028\u2029]+/g, ' ');
}

const plain = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;

function plainValue(value: string | number | undefined): string {
  if (typeof value === 'string') return cut(value, maxValueChars);
  return value === undefined || !Number.isFinite(value) ? absent : String(value);
}

/** A stranger's text between quotes ends neither them nor the line. */
function textValue(value: string | number | undefined): string {
  if (typeof value !== 'string') return plainValue(value);
  const text = plainValue(value);
  return plain.test(text) ? text : escapeControls(text.replace(/["\\]/g, '\\$&'));
}

function jsonValue(value: string | number | undefined): string {
  if (typeof value === 'string') return jsonText(cut(value, maxValueChars));
  return value === undefined || !Number.isFinite(value) ? 'null' : String(value);
}

function jsonText(text: string): string {
  return plain.test(text) ? `"${text}"` : escapeControls(JSON.stringify(text));
}

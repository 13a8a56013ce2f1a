import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';
import { escapeControls } from '../observe/logger.ts';
import type { AccessEntry, Read } from './access-entry.ts';
import { absent, cut } from './access-entry.ts';
import type { Segment } from './format-parse.ts';
import { parse } from './format-parse.ts';

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

import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';
import type { Read } from './access-entry.ts';
import { given, varying } from './access-entry.ts';
import { addressFields } from './address-fields.ts';
import { compileKnown, shortened } from './operators.ts';
import { compileStartTime } from './start-time.ts';

/** A part of a format string. */
export type Segment =
  | { readonly kind: 'literal'; readonly text: string }
  | { readonly kind: 'operator'; readonly read: Read };

const operator = /%([A-Za-z0-9_]+)(?:\(([^)]*)\))?(?::(\d{1,9}))?%/y;

/** The parts of one of Envoy's format strings; an error names the operator. */
export function parse(format: string): Result<readonly Segment[], string> {
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

function joined(text: string | undefined): string | undefined {
  const value = given(text);
  return value?.includes(' ') === true ? value.replaceAll(' ', '_') : value;
}

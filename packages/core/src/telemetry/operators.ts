import { hostname } from 'node:os';
import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';
import type { Read } from './access-entry.ts';
import { cut, given, varying } from './access-entry.ts';

/** Envoy's operators beyond those of the default format. */

/** Those that Envoy knows and that have nothing to tell here: they write what Envoy writes for what is absent. */
const silent: ReadonlySet<string> = new Set([
  'BYTES_RETRANSMITTED',
  'CLUSTER_METADATA',
  'CONNECTION_ID',
  'CUSTOM_FLAGS',
  'DOWNSTREAM_DETECTED_CLOSE_TYPE',
  'DOWNSTREAM_HANDSHAKE_DURATION',
  'DOWNSTREAM_HEADER_BYTES_RECEIVED',
  'DOWNSTREAM_HEADER_BYTES_SENT',
  'DOWNSTREAM_LOCAL_DNS_SAN',
  'DOWNSTREAM_LOCAL_SUBJECT',
  'DOWNSTREAM_LOCAL_URI_SAN',
  'DOWNSTREAM_PEER_CERT',
  'DOWNSTREAM_PEER_CERT_V_END',
  'DOWNSTREAM_PEER_CERT_V_START',
  'DOWNSTREAM_PEER_DNS_SAN',
  'DOWNSTREAM_PEER_FINGERPRINT_1',
  'DOWNSTREAM_PEER_FINGERPRINT_256',
  'DOWNSTREAM_PEER_ISSUER',
  'DOWNSTREAM_PEER_SERIAL',
  'DOWNSTREAM_PEER_SUBJECT',
  'DOWNSTREAM_TLS_CIPHER',
  'DOWNSTREAM_TLS_SESSION_ID',
  'DOWNSTREAM_TLS_VERSION',
  'DOWNSTREAM_TRANSPORT_FAILURE_REASON',
  'DOWNSTREAM_WIRE_BYTES_RECEIVED',
  'DOWNSTREAM_WIRE_BYTES_SENT',
  'DYNAMIC_METADATA',
  'FILTER_CHAIN_NAME',
  'FILTER_STATE',
  'LOCAL_REPLY_BODY',
  'METADATA',
  'REQUEST_DURATION',
  'REQUEST_HEADERS_BYTES',
  'REQUEST_TX_DURATION',
  'RESPONSE_HEADERS_BYTES',
  'RESPONSE_TRAILERS_BYTES',
  'ROUNDTRIP_DURATION',
  'TLS_JA3_FINGERPRINT',
  'TLS_JA4_FINGERPRINT',
  'UPSTREAM_CONNECTION_ID',
  'UPSTREAM_FILTER_STATE',
  'UPSTREAM_HEADER_BYTES_RECEIVED',
  'UPSTREAM_HEADER_BYTES_SENT',
  'UPSTREAM_METADATA',
  'UPSTREAM_PEER_CERT',
  'UPSTREAM_PEER_ISSUER',
  'UPSTREAM_PEER_SUBJECT',
  'UPSTREAM_PEER_URI_SAN',
  'UPSTREAM_PROTOCOL',
  'UPSTREAM_TLS_CIPHER',
  'UPSTREAM_TLS_SESSION_ID',
  'UPSTREAM_TLS_VERSION',
  'UPSTREAM_WIRE_BYTES_RECEIVED',
  'UPSTREAM_WIRE_BYTES_SENT',
  'VIRTUAL_CLUSTER_NAME',
]);

const longFlags: ReadonlyMap<string, string> = new Map(
  (
    'LH=FailedLocalHealthCheck UH=NoHealthyUpstream UT=UpstreamRequestTimeout LR=LocalReset UR=UpstreamRemoteReset ' +
    'UF=UpstreamConnectionFailure UC=UpstreamConnectionTermination UO=UpstreamOverflow NR=NoRouteFound ' +
    'DI=DelayInjected FI=FaultInjected RL=RateLimited UAEX=UnauthorizedExternalService RLSE=RateLimitServiceError ' +
    'DC=DownstreamConnectionTermination URX=UpstreamRetryLimitExceeded SI=StreamIdleTimeout ' +
    'IH=InvalidEnvoyRequestHeaders DPE=DownstreamProtocolError UMSDR=UpstreamMaxStreamDurationReached ' +
    'RFCF=ResponseFromCacheFilter NFCF=NoFilterConfigFound DT=DurationTimeout UPE=UpstreamProtocolError ' +
    'NC=NoClusterFound OM=OverloadManagerTerminated DF=DnsResolutionFailed DO=DropOverload'
  )
    .split(' ')
    .map((pair): [string, string] => {
      const [short = '', long = ''] = pair.split('=');
      return [short, long];
    }),
);

/** By number, as gRPC's own registry names them; each style is Envoy's. */
const grpcNames =
  'OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED ' +
  'RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS ' +
  'UNAUTHENTICATED';
const snake = grpcNames.split(' ');
const camel = snake.map((name) => {
  if (name === 'OK') return name;
  if (name === 'CANCELLED') return 'Canceled';
  return name.replace(/([A-Z])([A-Z]*)_?/g, (_, first: string, rest: string) => {
    return first + rest.toLowerCase();
  });
});

/** Of a pod it is its name. */
const host = hostname();

const plainReads: ReadonlyMap<string, Read> = new Map<string, Read>([
  ['ACCESS_LOG_TYPE', () => 'DownstreamEnd'],
  ['GRPC_STATUS_NUMBER', (entry) => grpcNumber(entry.grpcStatus)],
  ['HOSTNAME', () => host],
  ['RESPONSE_DURATION', varying(({ upstreamServiceTimeMs: time }) => rounded(time))],
  [
    'RESPONSE_TX_DURATION',
    varying(({ upstreamServiceTimeMs: time, durationMs }) =>
      rounded(time === undefined ? undefined : durationMs - time),
    ),
  ],
  ['RESPONSE_FLAGS_LONG', (entry) => given(entry.responseFlags)?.split(',').map(long).join(',')],
  ['STREAM_ID', varying((entry) => entry.requestHeader('x-request-id'))],
  ['TRACE_ID', varying((entry) => given(entry.traceId))],
  ['UPSTREAM_CLUSTER_RAW', (entry) => given(entry.upstreamCluster)],
  ['UPSTREAM_HOST_NAME', (entry) => given(entry.upstreamHost)],
  ['UPSTREAM_REQUEST_ATTEMPT_COUNT', (entry) => entry.attempts],
]);

const long = (flag: string): string => longFlags.get(flag) ?? flag;

function rounded(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.round(ms);
}

function grpcNumber(status: string | undefined): number | undefined {
  return status === undefined || status === '' ? undefined : Number(status);
}

/** An operator of Envoy's; undefined where Envoy has none of that name. */
export function compileKnown(
  name: string,
  argument: string | undefined,
  length: number | undefined,
): Result<Read, string> | undefined {
  if (silent.has(name)) return ok(() => undefined);
  if (name === 'ENVIRONMENT') {
    return err('operator ENVIRONMENT is refused: a log must not tell what the proxy was given');
  }
  if (name === 'GRPC_STATUS') return compileGrpcStatus(argument);
  if (name === 'TRAILER' || name === 'QUERY_PARAM') return compileNamed(name, argument, length);
  const read = plainReads.get(name);
  if (read === undefined) return undefined;
  return argument === undefined ? ok(read) : err(`operator ${name} takes no argument`);
}

function compileGrpcStatus(argument: string | undefined): Result<Read, string> {
  switch (argument) {
    case undefined:
    case '':
    case 'CAMEL_STRING':
      return ok(({ grpcStatus }) => named(camel, grpcStatus));
    case 'SNAKE_STRING':
      return ok(({ grpcStatus }) => named(snake, grpcStatus));
    case 'NUMBER':
      return ok(({ grpcStatus }) => grpcNumber(grpcStatus));
    default:
      return err(
        `operator GRPC_STATUS knows CAMEL_STRING, SNAKE_STRING and NUMBER, not ${JSON.stringify(argument)}`,
      );
  }
}

function named(names: readonly string[], status: string | undefined): string | undefined {
  const number = grpcNumber(status);
  return number === undefined ? undefined : (names[number] ?? status);
}

function compileNamed(
  operator: 'TRAILER' | 'QUERY_PARAM',
  argument: string | undefined,
  length: number | undefined,
): Result<Read, string> {
  if (argument === undefined || argument === '') return err(`operator ${operator} needs a name`);
  const trailer = argument.toLowerCase();
  const read: Read =
    operator === 'TRAILER'
      ? (entry) => entry.responseTrailer?.(trailer)
      : ({ path }) => parameterIn(path, argument);
  return ok(length === undefined ? read : shortened(read, length));
}

function parameterIn(path: string, name: string): string | undefined {
  const at = path.indexOf('?');
  return at < 0 ? undefined : (new URLSearchParams(path.slice(at + 1)).get(name) ?? undefined);
}

export function shortened(read: Read, length: number): Read {
  return (entry) => {
    const value = read(entry);
    return value === undefined ? undefined : cut(String(value), length);
  };
}

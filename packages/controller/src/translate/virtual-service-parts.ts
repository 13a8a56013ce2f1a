import type {
  HeaderChanges,
  HttpRoute,
  RetryCondition,
  RetryPolicy,
  StringMatch,
} from '@ambit/api';
import { noChanges, retryConditions } from '@ambit/api';

import type { HeadersSpec, HttpRouteSpec, StringMatchSpec } from '../resources/virtual-service.ts';
import { durationMs } from './duration.ts';
import { readHeaderChanges } from './header-changes.ts';

/** How the parts of a route tell what is wrong with them, and read what several of them have. */
export interface PartsCompiler {
  readonly report: (field: string, message: string) => void;
  readonly stringMatch: (spec: StringMatchSpec, path: string) => StringMatch | undefined;
}

/** Istio's own, for a policy that does not say. */
const defaultRetryOn =
  'connect-failure,refused-stream,reset-before-request,unavailable,cancelled,503';

export function compileDuration(
  text: string | undefined,
  path: string,
  { report }: Pick<PartsCompiler, 'report'>,
): number | undefined {
  if (text === undefined) return undefined;
  const ms = durationMs(text);
  if (ms === undefined) report(path, `${JSON.stringify(text)} is no length of time such as 1.5s`);
  return ms;
}

export function compileRetry(
  { retries }: HttpRouteSpec,
  path: string,
  parts: PartsCompiler,
): RetryPolicy | undefined {
  if (retries === undefined) return undefined;
  const at = `${path}.retries`;
  const perTryTimeoutMs = compileDuration(retries.perTryTimeout, `${at}.perTryTimeout`, parts);
  const backoffMs = compileDuration(retries.backoff, `${at}.backoff`, parts) ?? 25;
  const { attempts = 0 } = retries;
  if (attempts < 0) {
    parts.report(`${at}.attempts`, 'must not be negative; nothing is tried again');
  }
  return {
    attempts: Math.max(0, attempts),
    ...(perTryTimeoutMs === undefined ? {} : { perTryTimeoutMs }),
    ...compileRetryOn(retries.retryOn ?? defaultRetryOn, `${at}.retryOn`, parts),
    backoffMs,
    maxBackoffMs: backoffMs * 10,
    remoteLocalities: retries.retryRemoteLocalities ?? false,
    ignorePreviousHosts: retries.retryIgnorePreviousHosts ?? true,
    // Whoever names the conditions has decided what may be repeated.
    evenIfNotIdempotent: retries.retryOn !== undefined,
  };
}

function compileRetryOn(
  text: string,
  path: string,
  { report }: PartsCompiler,
): Pick<RetryPolicy, 'on' | 'statuses'> {
  const on: RetryCondition[] = [];
  const statuses: number[] = [];
  for (const word of text.split(',').map((one) => one.trim())) {
    const known = retryConditions.find((one) => one === word);
    if (known !== undefined) on.push(known);
    else if (/^[1-5]\d\d$/.test(word)) statuses.push(Number(word));
    else if (word !== '') report(path, `${JSON.stringify(word)} is no retry condition`);
  }
  return { on, statuses };
}

export function compileFault(
  { fault }: HttpRouteSpec,
  path: string,
  parts: PartsCompiler,
): HttpRoute['fault'] {
  return { ...compileDelay(fault?.delay, path, parts), ...compileAbort(fault?.abort, path, parts) };
}

type FaultSpec = NonNullable<HttpRouteSpec['fault']>;

function compileDelay(
  delay: FaultSpec['delay'],
  path: string,
  parts: PartsCompiler,
): Pick<HttpRoute['fault'], 'delay'> {
  if (delay === undefined) return {};
  const at = `${path}.fault.delay`;
  if (delay.fixedDelay === undefined) {
    parts.report(`${at}.fixedDelay`, 'must be set; nothing is delayed');
  }
  const ms = compileDuration(delay.fixedDelay, `${at}.fixedDelay`, parts);
  if (ms === undefined) return {};
  const percentage = share(delay.percentage?.value ?? delay.percent, at, parts);
  return { delay: { percentage, ms } };
}

function compileAbort(
  abort: FaultSpec['abort'],
  path: string,
  parts: PartsCompiler,
): Pick<HttpRoute['fault'], 'abort'> {
  if (abort === undefined) return {};
  const at = `${path}.fault.abort`;
  const percentage = share(abort.percentage?.value, at, parts);
  const { httpStatus, grpcStatus } = abort;
  if (grpcStatus !== undefined) {
    if (httpStatus !== undefined) {
      parts.report(`${at}.httpStatus`, 'cannot be combined with grpcStatus, which is used');
    }
    const known = grpcStatuses.get(grpcStatus.toUpperCase());
    if (known === undefined) {
      parts.report(
        `${at}.grpcStatus`,
        'is no status of gRPC such as UNAVAILABLE; nothing is aborted',
      );
      return {};
    }
    return { abort: { percentage, status: known.http, grpcStatus: known.code } };
  }
  if (httpStatus === undefined) {
    parts.report(at, 'needs httpStatus or grpcStatus; nothing is aborted');
    return {};
  }
  if (httpStatus < 200 || httpStatus > 599) {
    parts.report(`${at}.httpStatus`, 'must be 200 to 599; nothing is aborted');
    return {};
  }
  return { abort: { percentage, status: httpStatus } };
}

/** As in Istio, a fault that does not say how often never happens. */
function share(value: number | undefined, path: string, { report }: PartsCompiler): number {
  if (value === undefined) return 0;
  if (value >= 0 && value <= 100) return value;
  report(`${path}.percentage`, 'must be 0 to 100; it counts as 0');
  return 0;
}

/** By name, with what Envoy answers to who does not speak gRPC. */
const grpcStatuses: ReadonlyMap<string, { readonly code: number; readonly http: number }> = new Map(
  (
    [
      ['OK', 200],
      ['CANCELLED', 499],
      ['UNKNOWN', 500],
      ['INVALID_ARGUMENT', 400],
      ['DEADLINE_EXCEEDED', 504],
      ['NOT_FOUND', 404],
      ['ALREADY_EXISTS', 409],
      ['PERMISSION_DENIED', 403],
      ['RESOURCE_EXHAUSTED', 429],
      ['FAILED_PRECONDITION', 400],
      ['ABORTED', 409],
      ['OUT_OF_RANGE', 400],
      ['UNIMPLEMENTED', 501],
      ['INTERNAL', 500],
      ['UNAVAILABLE', 503],
      ['DATA_LOSS', 500],
      ['UNAUTHENTICATED', 401],
    ] as const
  ).map(([name, http], code) => [name, { code, http }]),
);

export function compileCors(
  { corsPolicy: cors }: HttpRouteSpec,
  path: string,
  parts: PartsCompiler,
): HttpRoute['cors'] {
  if (cors === undefined) return undefined;
  const at = `${path}.corsPolicy`;
  const age = compileDuration(cors.maxAge, `${at}.maxAge`, parts);
  return {
    allowOrigins: (cors.allowOrigins ?? []).flatMap(
      (one, index) => parts.stringMatch(one, `${at}.allowOrigins[${index}]`) ?? [],
    ),
    allowMethods: cors.allowMethods ?? [],
    allowHeaders: cors.allowHeaders ?? [],
    exposeHeaders: cors.exposeHeaders ?? [],
    ...(age === undefined ? {} : { maxAgeSeconds: Math.round(age / 1000) }),
    allowCredentials: cors.allowCredentials ?? false,
    forwardUnmatchedPreflights: cors.unmatchedPreflights !== 'IGNORE',
  };
}

export function compileHeaders(
  spec: HeadersSpec | undefined,
  path: string,
  report: PartsCompiler['report'],
): { readonly request: HeaderChanges; readonly response: HeaderChanges } {
  return {
    request: changesOf(spec?.request, `${path}.request`, report),
    response: changesOf(spec?.response, `${path}.response`, report),
  };
}

function changesOf(
  spec: HeadersSpec['request'],
  path: string,
  report: PartsCompiler['report'],
): HeaderChanges {
  if (spec === undefined) return noChanges;
  const { set = {}, add = {}, remove = [] } = spec;
  const written = {
    set: Object.entries(set),
    add: Object.entries(add),
    remove,
    formatted: true,
  } as const;
  return readHeaderChanges(written, path, report);
}

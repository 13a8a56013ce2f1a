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

/** How the parts of a route tell what is wrong with them, and read what several of them have. */
export interface PartsCompiler {
  readonly report: (field: string, message: string) => void;
  readonly stringMatch: (spec: StringMatchSpec, path: string) => StringMatch | undefined;
}

/** Istio's own, for a policy that does not say. */
const defaultRetryOn = 'connect-failure,refused-stream,unavailable,cancelled,503';

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
  return {
    attempts: Math.max(0, retries.attempts ?? 0),
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
  return { ...compileDelay(fault?.delay, path, parts), ...compileAbort(fault?.abort) };
}

type FaultSpec = NonNullable<HttpRouteSpec['fault']>;

function compileDelay(
  delay: FaultSpec['delay'],
  path: string,
  parts: PartsCompiler,
): Pick<HttpRoute['fault'], 'delay'> {
  const ms = compileDuration(delay?.fixedDelay, `${path}.fault.delay.fixedDelay`, parts);
  if (delay === undefined || ms === undefined) return {};
  return { delay: { percentage: delay.percentage?.value ?? delay.percent ?? 100, ms } };
}

function compileAbort(abort: FaultSpec['abort']): Pick<HttpRoute['fault'], 'abort'> {
  const status = abort?.httpStatus ?? (abort?.grpcStatus === undefined ? undefined : 503);
  if (abort === undefined || status === undefined) return {};
  return { abort: { percentage: abort.percentage?.value ?? 100, status } };
}

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

export function compileHeaders(spec: HeadersSpec | undefined): {
  readonly request: HeaderChanges;
  readonly response: HeaderChanges;
} {
  return { request: changesOf(spec?.request), response: changesOf(spec?.response) };
}

function changesOf(spec: HeadersSpec['request']): HeaderChanges {
  if (spec === undefined) return noChanges;
  return {
    remove: (spec.remove ?? []).map((name) => name.toLowerCase()),
    set: lowered(spec.set),
    add: lowered(spec.add),
  };
}

function lowered(
  pairs: Readonly<Record<string, string>> | undefined,
): (readonly [string, string])[] {
  return Object.entries(pairs ?? {}).map(([name, value]) => [name.toLowerCase(), value] as const);
}

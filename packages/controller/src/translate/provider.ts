import type {
  AccessLogFormat,
  CheckedBody,
  ExtensionProvider,
  ProviderAddress,
  Result,
} from '@ambit/api';
import { err, ok, parseHostname, parsePort } from '@ambit/api';
import { compileFormat, compileJsonFormat } from '@ambit/core';

import { field } from '../kube/decode/fields.ts';
import { problemsBelow } from '../resources/crd.ts';
import type {
  AuthorizerSpec,
  ExtAuthzHttpSpec,
  FileAccessLogSpec,
  OpentelemetrySpec,
  ProviderSpec,
  ZipkinSpec,
} from '../resources/mesh-config.ts';
import { providerSpec } from '../resources/mesh-config.ts';
import { durationMs } from './duration.ts';

type Report = (path: string, message: string) => void;

/** As Istio's. */
const defaultTimeoutMs = 600_000;
const defaultMaxTagLength = 256;
const exportTimeoutMs = 10_000;
/** What a proxy is ready to hold of one request for an authorizer, whatever is asked. */
const mostBodyBytes = 1024 * 1024;

const kinds = [
  'envoyExtAuthzHttp',
  'envoyExtAuthzGrpc',
  'opentelemetry',
  'zipkin',
  'envoyFileAccessLog',
  'prometheus',
] as const;

/** Compiles one of MeshConfig.extensionProviders; undefined, and told, where something of it is wrong. */
export function compileProvider(
  raw: unknown,
  at: string,
  report: Report,
): ExtensionProvider | undefined {
  const known = kinds.filter((kind) => field(raw, kind) !== undefined);
  if (known.length !== 1) {
    report(at, `must have exactly one of ${kinds.join(', ')}; no other provider is known here`);
    return undefined;
  }
  const broken = problemsBelow(at, providerSpec, raw);
  for (const problem of broken) report(problem.field, problem.message);
  if (broken.length > 0) return undefined;
  // The schema was just checked; this is the edge where the type is given.
  const spec = raw as ProviderSpec;
  const failures: string[] = [];
  const compiling: Compiling = {
    name: spec.name,
    fail: (path, message) => {
      failures.push(path);
      report(`${at}.${path}`, message);
    },
    note: (path, message) => report(`${at}.${path}`, message),
  };
  const compiled = byKind(spec, compiling);
  return failures.length > 0 ? undefined : compiled;
}

interface Compiling {
  readonly name: string;
  /** The provider cannot be used. */
  readonly fail: Report;
  /** It can, without this. */
  readonly note: Report;
}

function byKind(spec: ProviderSpec, compiling: Compiling): ExtensionProvider | undefined {
  if (spec.envoyExtAuthzHttp !== undefined) return extAuthzHttp(spec.envoyExtAuthzHttp, compiling);
  if (spec.envoyExtAuthzGrpc !== undefined) {
    const common = authorizer(spec.envoyExtAuthzGrpc, 'envoyExtAuthzGrpc', compiling);
    return common && { kind: 'ext-authz-grpc', ...common };
  }
  if (spec.opentelemetry !== undefined) return opentelemetry(spec.opentelemetry, compiling);
  if (spec.zipkin !== undefined) return zipkin(spec.zipkin, compiling);
  if (spec.envoyFileAccessLog !== undefined) return accessLog(spec.envoyFileAccessLog, compiling);
  return { kind: 'prometheus', name: compiling.name };
}

/** `[NAMESPACE/]HOST` and a port. */
export function providerAddress(service: string, port: number): Result<ProviderAddress, string> {
  const slash = service.indexOf('/');
  const host = parseHostname(service.slice(slash + 1).toLowerCase());
  if (!host.ok) return err(host.error.message);
  const parsed = parsePort(port);
  if (!parsed.ok) return err(parsed.error.message);
  return ok({
    host: host.value,
    port: parsed.value,
    ...(slash > 0 ? { namespace: service.slice(0, slash) } : {}),
  });
}

function addressOf(
  { service, port }: { readonly service: string; readonly port: number },
  at: string,
  { fail }: Compiling,
): ProviderAddress | undefined {
  const found = providerAddress(service, port);
  if (found.ok) return found.value;
  fail(at, `service ${JSON.stringify(service)}, port ${port}: ${found.error}`);
  return undefined;
}

function timeoutOf(
  text: string | undefined,
  fallbackMs: number,
  at: string,
  { fail }: Compiling,
): number {
  if (text === undefined) return fallbackMs;
  const parsed = durationMs(text);
  if (parsed !== undefined && parsed > 0) return parsed;
  fail(at, `${JSON.stringify(text)} is no length of time such as 0.5s`);
  return fallbackMs;
}

function authorizer(spec: AuthorizerSpec, at: string, compiling: Compiling) {
  const address = addressOf(spec, at, compiling);
  const timeoutMs = timeoutOf(spec.timeout, defaultTimeoutMs, `${at}.timeout`, compiling);
  const wanted = spec.includeRequestBodyInCheck;
  let body: CheckedBody | undefined;
  if (wanted !== undefined) {
    const maxBytes = wanted.maxRequestBytes ?? 0;
    if (!Number.isInteger(maxBytes) || maxBytes < 1 || maxBytes > mostBodyBytes) {
      const where = `${at}.includeRequestBodyInCheck.maxRequestBytes`;
      compiling.fail(where, `must be from 1 to ${mostBodyBytes}`);
    }
    const { allowPartialMessage: allowPartial = false, packAsBytes = false } = wanted;
    body = { maxBytes, allowPartial, packAsBytes };
  }
  return (
    address && {
      name: compiling.name,
      address,
      timeoutMs,
      failOpen: spec.failOpen ?? false,
      statusOnError: Number(spec.statusOnError ?? '403'),
      ...(body === undefined ? {} : { body }),
    }
  );
}

function extAuthzHttp(spec: ExtAuthzHttpSpec, compiling: Compiling): ExtensionProvider | undefined {
  const at = 'envoyExtAuthzHttp';
  const common = authorizer(spec, at, compiling);
  const pathPrefix = spec.pathPrefix ?? '';
  if (pathPrefix !== '' && !/^\/[!-"$->@-~]*$/.test(pathPrefix)) {
    compiling.fail(`${at}.pathPrefix`, 'must begin with / and have no query');
  }
  const names = (
    field_:
      | 'includeRequestHeadersInCheck'
      | 'includeHeadersInCheck'
      | 'headersToUpstreamOnAllow'
      | 'headersToDownstreamOnDeny'
      | 'headersToDownstreamOnAllow',
  ) => patterns(spec[field_], `${at}.${field_}`, compiling);
  const additional = Object.entries(spec.includeAdditionalHeadersInCheck ?? {});
  for (const [name, value] of additional) {
    if (isFieldName(name) && isFieldValue(value)) continue;
    compiling.fail(
      `${at}.includeAdditionalHeadersInCheck`,
      `${JSON.stringify(name)} is no field that can be sent`,
    );
  }
  return (
    common && {
      kind: 'ext-authz-http',
      ...common,
      pathPrefix,
      includeRequestHeaders: [
        ...names('includeRequestHeadersInCheck'),
        ...names('includeHeadersInCheck'),
      ],
      additionalHeaders: additional.map(([name, value]) => [name.toLowerCase(), value] as const),
      headersToUpstreamOnAllow: names('headersToUpstreamOnAllow'),
      headersToDownstreamOnDeny: names('headersToDownstreamOnDeny'),
      headersToDownstreamOnAllow: names('headersToDownstreamOnAllow'),
    }
  );
}

function patterns(
  names: readonly string[] | undefined,
  at: string,
  { fail }: Compiling,
): readonly string[] {
  return (names ?? []).map((name) => {
    const bare = name === '*' ? 'a' : name.replace(/^\*|\*$/, '');
    if (!isFieldName(bare))
      fail(at, `${JSON.stringify(name)} is no name of a field, prefix* or *suffix`);
    return name.toLowerCase();
  });
}

function isFieldName(name: string): boolean {
  return /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/.test(name);
}

function isFieldValue(value: string): boolean {
  return /^[\t\x20-\x7e]{0,4096}$/.test(value);
}

function tagLength(given: number | undefined, at: string, { fail }: Compiling): number {
  const length = given ?? defaultMaxTagLength;
  if (Number.isInteger(length) && length > 0) return length;
  fail(at, 'must be a whole number above 0');
  return defaultMaxTagLength;
}

function opentelemetry(
  spec: OpentelemetrySpec,
  compiling: Compiling,
): ExtensionProvider | undefined {
  const at = 'opentelemetry';
  const address = addressOf(spec, at, compiling);
  for (const name of ['resourceDetectors', 'dynatraceSampler', 'grpc'] as const) {
    if (spec[name] !== undefined) compiling.note(`${at}.${name}`, 'is not read; it has no effect');
  }
  const { http } = spec;
  const headers = (http?.headers ?? []).map(({ name = '', value = '', envName }) => {
    if (envName !== undefined)
      compiling.fail(`${at}.http.headers`, 'envName cannot be read here; use value');
    if (!isFieldName(name) || !isFieldValue(value))
      compiling.fail(`${at}.http.headers`, `${JSON.stringify(name)} is no field that can be sent`);
    return [name.toLowerCase(), value] as const;
  });
  const path = http?.path ?? '/v1/traces';
  if (!path.startsWith('/')) compiling.fail(`${at}.http.path`, 'must begin with /');
  const timeoutMs = timeoutOf(http?.timeout, exportTimeoutMs, `${at}.http.timeout`, compiling);
  const maxTagLength = tagLength(spec.maxTagLength, `${at}.maxTagLength`, compiling);
  return (
    address && {
      kind: 'opentelemetry',
      name: compiling.name,
      address,
      ...(http === undefined ? {} : { http: { path, timeoutMs, headers } }),
      maxTagLength,
    }
  );
}

function zipkin(spec: ZipkinSpec, compiling: Compiling): ExtensionProvider | undefined {
  const address = addressOf(spec, 'zipkin', compiling);
  for (const name of ['enable64bitTraceId', 'traceContextOption', 'timeout', 'headers'] as const) {
    if (spec[name] !== undefined) compiling.note(`zipkin.${name}`, 'is not read; it has no effect');
  }
  const path = spec.path ?? '/api/v2/spans';
  if (!path.startsWith('/')) compiling.fail('zipkin.path', 'must begin with /');
  const maxTagLength = tagLength(spec.maxTagLength, 'zipkin.maxTagLength', compiling);
  return address && { kind: 'zipkin', name: compiling.name, address, path, maxTagLength };
}

function accessLog(spec: FileAccessLogSpec, compiling: Compiling): ExtensionProvider {
  const at = 'envoyFileAccessLog';
  if (spec.omitEmptyValues !== undefined)
    compiling.note(`${at}.omitEmptyValues`, 'is not read; it has no effect');
  const { text, labels } = spec.logFormat ?? {};
  if (text !== undefined && labels !== undefined)
    compiling.fail(`${at}.logFormat`, 'has text and labels; keep one of them');
  const format = formatOf(text, labels && Object.entries(labels));
  const problem = formatProblem(format);
  if (problem !== undefined) compiling.note(`${at}.logFormat`, problem);
  return {
    kind: 'access-log',
    name: compiling.name,
    path: spec.path ?? '/dev/stdout',
    format,
  };
}

function formatOf(
  text: string | undefined,
  fields: readonly (readonly [string, string])[] | undefined,
): AccessLogFormat {
  if (fields !== undefined) return { kind: 'json', fields };
  if (text === undefined || text === '') return { kind: 'default-text' };
  // As Istio: a line ends, whether or not its format says so.
  return { kind: 'text', text: text.endsWith('\n') ? text : `${text}\n` };
}

/** Why waypoints could not write in this format. */
export function formatProblem(format: AccessLogFormat): string | undefined {
  if (format.kind === 'default-text') return undefined;
  const compiled =
    format.kind === 'text' ? compileFormat(format.text) : compileJsonFormat(new Map(format.fields));
  return compiled.ok ? undefined : `cannot be used: ${compiled.error}`;
}

/** MeshConfig's own format and encoding; undefined where they are at odds. */
export function accessLogFormat(
  format: string,
  encoding: 'TEXT' | 'JSON',
): AccessLogFormat | undefined {
  if (encoding === 'TEXT') return formatOf(format, undefined);
  if (format === '') return { kind: 'json', fields: [] };
  try {
    const parsed: unknown = JSON.parse(format);
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return undefined;
    const fields = Object.entries(parsed as Record<string, unknown>);
    if (!fields.every((one): one is [string, string] => typeof one[1] === 'string'))
      return undefined;
    return { kind: 'json', fields };
  } catch {
    return undefined;
  }
}

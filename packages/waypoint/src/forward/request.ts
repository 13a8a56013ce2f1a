import { randomUUID } from 'node:crypto';
import type { HashKey, HttpRoute, RetryPolicy, WeightedTarget } from '@ambit/api';
import { noChanges } from '@ambit/api';
import { copyBothWays } from '@ambit/core';
import type { Downstream, WaypointContext } from '../context.ts';
import { HeaderList } from '../http/headers.ts';
import type {
  BodySink,
  ClientExchange,
  ExchangeEvents,
  HttpError,
  RequestHead,
  ResponseEvents,
  ResponseHead,
  ServerExchange,
} from '../http/message.ts';
import { changeHeaders, rewriteAuthority, rewritePath } from '../route/changes.ts';
import type { EndpointHost, UpstreamCluster } from './clusters.ts';
import type { Acquired, UpstreamProtocol } from './connections.ts';
import { hashOf } from './pick.ts';
import type { TryOutcome } from './retry.ts';
import { backoffMs, defaultRetry, isIdempotent, isWorthRetry } from './retry.ts';
import { RequestRecord } from './record.ts';

/** A body may be repeated while this much of it is all there is. */
const maxReplayBytes = 64 * 1024;
/** An answer that is thrown away for another try is read to its end when it is short; else its connection is cut. */
const maxDiscardBytes = 64 * 1024;

/** Where a request goes and what is done to it on the way. */
export interface ForwardPlan {
  readonly route: HttpRoute | undefined;
  readonly target: Pick<WeightedTarget, 'request' | 'response'>;
  readonly cluster: UpstreamCluster;
}

/** Carries one request to an endpoint, again where that is allowed, and its answer back. */
export class Forwarding implements ExchangeEvents, BodySink {
  readonly #context: WaypointContext;
  readonly #downstream: Downstream;
  readonly #exchange: ServerExchange;
  readonly #plan: ForwardPlan;
  readonly #record: RequestRecord;
  readonly #retry: RetryPolicy;
  readonly #head: RequestHead;
  readonly #hash: number | undefined;
  readonly #tried = new Set<string>();
  #replay: Buffer[] = [];
  #replayBytes = 0;
  #replayable = true;
  #bodyEnd: { readonly trailers: HeaderList | undefined } | undefined;
  #tries = 0;
  #try: Try | undefined;
  #responded = false;
  #done = false;
  #retrying = false;
  #timeout: NodeJS.Timeout | undefined;
  #wait: NodeJS.Timeout | undefined;

  constructor(
    context: WaypointContext,
    downstream: Downstream,
    exchange: ServerExchange,
    plan: ForwardPlan,
    record: RequestRecord,
  ) {
    this.#context = context;
    this.#downstream = downstream;
    this.#exchange = exchange;
    this.#plan = plan;
    this.#record = record;
    this.#retry = plan.route?.retry ?? defaultRetry;
    this.#head = this.#upstreamHead();
    this.#hash = this.#hashKey();
  }

  start(): void {
    const { route } = this.#plan;
    if (route?.timeoutMs !== undefined && route.timeoutMs > 0) {
      this.#timeout = setTimeout(() => this.#timedOut(), route.timeoutMs);
    }
    this.#exchange.attach(this, this);
    this.#startTry();
  }

  #upstreamHead(): RequestHead {
    const { request } = this.#exchange;
    const { route, target } = this.#plan;
    const headers = request.headers.clone();
    vouch(headers, request, this.#downstream, this.#context.identity.uri);
    const rewrite = route?.action.kind === 'forward' ? route.action.rewrite : {};
    let authority = rewriteAuthority(request.authority, rewrite);
    authority = changeHeaders(headers, route?.request ?? noChanges) ?? authority;
    authority = changeHeaders(headers, target.request) ?? authority;
    return {
      method: request.method,
      scheme: request.scheme,
      authority,
      path: rewritePath(request.path, rewrite.path),
      headers,
      protocol: request.protocol,
      // What would change the protocol under the proxy's feet is not passed on.
      upgrade: request.upgrade === 'websocket' ? request.upgrade : undefined,
      expectContinue: false,
    };
  }

  /** HTTP/2 where the port says so, and where a client of HTTP/2 speaks gRPC, which needs it. */
  #protocol(): UpstreamProtocol {
    const { cluster } = this.#plan;
    const { request } = this.#exchange;
    const grpc = request.headers.get('content-type')?.startsWith('application/grpc') === true;
    const asked = cluster.http2 || (request.protocol === 'HTTP/2' && grpc);
    return asked && this.#head.upgrade === undefined ? 'HTTP/2' : 'HTTP/1.1';
  }

  #hashKey(): number | undefined {
    const { balancing } = this.#plan.cluster.settings;
    if (balancing.kind !== 'ring-hash' && balancing.kind !== 'maglev') return undefined;
    const value = valueOf(balancing.key, this.#exchange.request, this.#downstream.source.ip);
    if (value !== undefined) return hashOf(value);
    if (balancing.key.kind !== 'cookie' || balancing.key.ttlSeconds === undefined) return undefined;
    const made = randomUUID();
    const { name, path, ttlSeconds } = balancing.key;
    const age = ttlSeconds > 0 ? `; Max-Age=${ttlSeconds}` : '';
    this.#cookie = `${name}=${made}; Path=${path}${age}; HttpOnly`;
    return hashOf(made);
  }
  #cookie: string | undefined;

  // The request's body.

  data(chunk: Buffer): void {
    this.#record.requestBytes += chunk.length;
    const ready = this.#try?.ready === true;
    if (this.#replayable) {
      this.#replay.push(chunk);
      this.#replayBytes += chunk.length;
      if (this.#replayBytes > maxReplayBytes) {
        if (ready) this.#dropReplay();
        else this.#exchange.pauseBody();
      }
    }
    if (ready && this.#try?.write(chunk) === false) this.#exchange.pauseBody();
  }

  end(trailers: HeaderList | undefined): void {
    this.#bodyEnd = { trailers };
    if (this.#try?.ready === true) this.#try.sendEnd(trailers);
    this.#mirror();
  }

  #dropReplay(): void {
    this.#replayable = false;
    this.#replay = [];
  }

  /** For the try: it can be written to; gives it all that has come so far. */
  tryReady(attempt: Try): void {
    for (const chunk of this.#replay) attempt.write(chunk);
    if (this.#replayBytes > maxReplayBytes) this.#dropReplay();
    if (this.#bodyEnd !== undefined) attempt.sendEnd(this.#bodyEnd.trailers);
    else this.#exchange.resumeBody();
  }

  // The client.

  drain(): void {
    this.#try?.resume();
  }

  gone(error: HttpError): void {
    if (this.#done) return;
    this.#try?.abandon(error);
    this.#record.flags = 'DC';
    this.#record.details = 'downstream_remote_disconnect';
    this.#finish();
  }

  /** For the try: the endpoint takes more again. */
  writable(): void {
    this.#exchange.resumeBody();
  }

  // Tries.

  #startTry(): void {
    const { cluster } = this.#plan;
    const { random } = this.#context;
    const host = cluster.pick({
      random,
      nowMs: performance.now(),
      hash: this.#hash,
      exclude: this.#retry.ignorePreviousHosts ? this.#tried : noneTried,
    });
    if (host === undefined) {
      this.#fail(503, 'UH', 'no_healthy_upstream');
      return;
    }
    const { maxRequests } = cluster.settings.pool;
    if (maxRequests !== undefined && cluster.requests >= maxRequests) {
      this.#fail(503, 'UO', 'overflow');
      return;
    }
    this.#tries += 1;
    this.#tried.add(host.id);
    this.#record.host = host;
    this.#try = new Try(this, {
      host,
      cluster,
      head: this.#head,
      hasBody: this.#exchange.hasBody,
      client: this.#downstream.peer.uri,
      protocol: this.#protocol(),
      perTryTimeoutMs: this.#retry.perTryTimeoutMs,
    });
    this.#try.start();
  }

  /** For the try: it ended without an answer, or with one that has not been passed on. True: another one follows. */
  tryOver(outcome: TryOutcome, host: EndpointHost, reused: boolean): boolean {
    this.#reportOutlier(outcome, host);
    if (this.#done || this.#responded) return false;
    if (this.#mayRetry(outcome, reused)) {
      this.#beginRetry();
      return true;
    }
    return false;
  }

  #mayRetry(outcome: TryOutcome, reused: boolean): boolean {
    const { cluster } = this.#plan;
    if (!this.#replayable || this.#head.upgrade !== undefined) return false;
    const idempotent = isIdempotent(this.#head.method);
    // An idle connection that the endpoint had just given up says nothing about the endpoint: that try is free.
    const stale = outcome.kind === 'reset' && reused && idempotent && this.#tries <= 3;
    if (stale) return true;
    if (this.#tries > this.#retry.attempts) {
      if (this.#retry.attempts > 0 && isWorthRetry(this.#retry, outcome, { idempotent })) {
        this.#record.exhausted = true;
      }
      return false;
    }
    if (!isWorthRetry(this.#retry, outcome, { idempotent })) return false;
    if (!this.#withinBudget(cluster)) {
      this.#record.flags = 'UO';
      return false;
    }
    return true;
  }

  #withinBudget({ settings, requests, retries }: UpstreamCluster): boolean {
    const budget = settings.retryBudget;
    if (budget !== undefined) {
      return retries < Math.max(budget.minRetryConcurrency, (requests * budget.percent) / 100);
    }
    return retries < (settings.pool.maxRetries ?? Number.POSITIVE_INFINITY);
  }

  #beginRetry(): void {
    if (!this.#retrying) {
      this.#retrying = true;
      this.#plan.cluster.retries += 1;
    }
    this.#try = undefined;
    const waitMs = backoffMs(this.#retry, this.#tries, this.#context.random);
    this.#wait = setTimeout(() => this.#startTry(), waitMs);
  }

  #reportOutlier(outcome: TryOutcome, host: EndpointHost): void {
    const { cluster } = this.#plan;
    const now = performance.now();
    if (outcome.kind !== 'response') {
      const report = outcome.kind === 'try-timeout' ? 'gateway-error' : 'local-origin';
      if (cluster.report(host, report, now)) this.#toldEjected(host);
      return;
    }
    const { status } = outcome;
    const report =
      status < 500 ? 'success' : status >= 502 && status <= 504 ? 'gateway-error' : '5xx';
    if (cluster.report(host, report, now)) this.#toldEjected(host);
  }

  #toldEjected(host: EndpointHost): void {
    this.#context.logger.warn(
      { cluster: this.#plan.cluster.name, 'dst.workload': host.workload.name },
      'endpoint ejected',
    );
  }

  // The answer.

  /** For the try: an answer that is to be passed on. */
  respond({ status, headers }: ResponseHead, hasBody: boolean): void {
    const { route, target } = this.#plan;
    this.#responded = true;
    this.#record.answered(status, headers);
    changeHeaders(headers, target.response);
    changeHeaders(headers, route?.response ?? noChanges);
    if (this.#record.cors !== undefined) changeHeaders(headers, this.#record.cors);
    if (this.#cookie !== undefined) headers.append('set-cookie', this.#cookie);
    this.#exchange.respond({ status, headers }, hasBody);
    if (!hasBody) this.#finish();
  }

  inform(head: ResponseHead): void {
    this.#exchange.inform(head);
  }

  responseData(chunk: Buffer): boolean {
    this.#record.responseBytes += chunk.length;
    return this.#exchange.write(chunk);
  }

  responseEnd(trailers: HeaderList | undefined): void {
    this.#record.trailers(trailers);
    this.#exchange.end(trailers);
    this.#finish();
  }

  upgraded(head: ResponseHead, upstream: Parameters<ResponseEvents['upgraded']>[1]): void {
    this.#record.answered(101, head.headers);
    const stream = this.#exchange.upgrade(head);
    if (stream === undefined) {
      upstream.abort(new Error('the client is gone'));
      return;
    }
    clearTimeout(this.#timeout);
    const copy = copyBothWays(stream, upstream);
    void copy.done.then(({ sent, received }) => {
      this.#record.requestBytes += sent;
      this.#record.responseBytes += received;
      this.#finish();
    });
  }

  /** For the try: the end without another try. */
  tryFailed(outcome: TryOutcome, error: HttpError): void {
    if (this.#done) return;
    this.#record.upstreamFailure = error.message;
    if (this.#responded) {
      this.#record.flags = 'UC';
      this.#record.details = 'upstream_reset_after_response_started';
      this.#exchange.abort(error);
      this.#finish();
      return;
    }
    if (error.code === 'pool/overflow') this.#fail(503, 'UO', 'overflow');
    else if (outcome.kind === 'connect-failure') {
      this.#fail(503, 'UF', 'upstream_reset_before_response_started{connection_failure}');
    } else if (outcome.kind === 'try-timeout') this.#fail(504, 'UT', 'upstream_per_try_timeout');
    else if (error.code === 'http1/malformed') this.#fail(502, 'UPE', 'upstream_protocol_error');
    else this.#fail(503, 'UC', 'upstream_reset_before_response_started{connection_termination}');
  }

  #timedOut(): void {
    if (this.#done) return;
    const error = new Error('the request took too long');
    this.#try?.abandon(error);
    this.#record.flags = 'UT';
    this.#record.details = 'response_timeout';
    if (!this.#responded) {
      this.#fail(504, 'UT', 'response_timeout');
      return;
    }
    this.#exchange.abort(error);
    this.#finish();
  }

  #fail(status: number, flags: string, details: string): void {
    if (this.#done) return;
    this.#record.fail(status, this.#record.exhausted ? `${flags},URX` : flags, details);
    const cors = this.#record.cors ?? noChanges;
    answerLocally(this.#exchange, status, localReason(status, flags), cors);
    this.#finish();
  }

  #finish(): void {
    if (this.#done) return;
    this.#done = true;
    clearTimeout(this.#timeout);
    clearTimeout(this.#wait);
    if (this.#retrying) this.#plan.cluster.retries -= 1;
    this.#record.finish();
  }

  /** Sends copies to who is to look on; their answers are nobody's business. */
  #mirror(): void {
    const mirrors = this.#plan.route?.mirrors ?? [];
    if (mirrors.length === 0 || (!this.#replayable && this.#exchange.hasBody)) return;
    const { random, clusters } = this.#context;
    for (const { target, percentage } of mirrors) {
      if (target.kind !== 'service' || random() * 100 >= percentage) continue;
      const cluster = clusters.find(target);
      const host = cluster?.pick({
        random,
        nowMs: performance.now(),
        hash: undefined,
        exclude: noneTried,
      });
      if (cluster === undefined || host === undefined) continue;
      const authority = this.#head.authority.replace(/(:\d{1,5})?$/, '-shadow$1');
      const head = { ...this.#head, authority, headers: this.#head.headers.clone() };
      const shadow = new Try(lookingOn, {
        host,
        cluster,
        head,
        hasBody: this.#exchange.hasBody,
        client: this.#downstream.peer.uri,
        protocol: 'HTTP/1.1',
        perTryTimeoutMs: this.#plan.route?.timeoutMs ?? shadowTimeoutMs,
        body: [...this.#replay],
      });
      shadow.start();
    }
  }
}

const noneTried: ReadonlySet<string> = new Set();
const shadowTimeoutMs = 15_000;

interface TryOwner {
  tryReady(attempt: Try): void;
  tryOver(outcome: TryOutcome, host: EndpointHost, reused: boolean): boolean;
  tryFailed(outcome: TryOutcome, error: HttpError): void;
  respond(head: ResponseHead, hasBody: boolean): void;
  inform(head: ResponseHead): void;
  responseData(chunk: Buffer): boolean;
  responseEnd(trailers: HeaderList | undefined): void;
  upgraded(head: ResponseHead, upstream: Parameters<ResponseEvents['upgraded']>[1]): void;
  writable(): void;
}

/** Of a mirrored request: takes what comes and keeps nothing. */
const lookingOn: TryOwner = {
  tryReady: (attempt) => {
    attempt.writeOwn();
  },
  tryOver: () => false,
  tryFailed: () => undefined,
  respond: () => undefined,
  inform: () => undefined,
  responseData: () => true,
  responseEnd: () => undefined,
  upgraded: (_head, upstream) => upstream.abort(new Error('nobody asked')),
  writable: () => undefined,
};

interface TryParts {
  readonly host: EndpointHost;
  readonly cluster: UpstreamCluster;
  readonly head: RequestHead;
  readonly hasBody: boolean;
  readonly client: string;
  readonly protocol: UpstreamProtocol;
  readonly perTryTimeoutMs: number | undefined;
  readonly body?: readonly Buffer[];
}

/** One try at one endpoint. */
class Try implements ResponseEvents {
  ready = false;
  readonly #owner: TryOwner;
  readonly #parts: TryParts;
  #acquired: Acquired | undefined;
  #client: ClientExchange | undefined;
  #timer: NodeJS.Timeout | undefined;
  #reused = false;
  #counted = false;
  #over = false;
  #discarding = false;

  constructor(owner: TryOwner, parts: TryParts) {
    this.#owner = owner;
    this.#parts = parts;
  }

  start(): void {
    const { host, cluster, client, protocol, perTryTimeoutMs } = this.#parts;
    this.#counted = true;
    host.active += 1;
    cluster.requests += 1;
    if (perTryTimeoutMs !== undefined && perTryTimeoutMs > 0) {
      this.#timer = setTimeout(() => this.#timedOut(), perTryTimeoutMs);
    }
    this.#acquired = cluster.pool.acquire(
      host,
      client,
      protocol,
      (connection, reused) => {
        if (this.#over) return;
        this.#reused = reused;
        this.#client = connection.request(this.#parts.head, this.#parts.hasBody, this);
        this.ready = true;
        this.#owner.tryReady(this);
      },
      (error) => this.#end({ kind: 'connect-failure' }, error),
    );
  }

  write(chunk: Buffer): boolean {
    return this.#client?.write(chunk) ?? true;
  }

  sendEnd(trailers?: HeaderList): void {
    this.#client?.end(trailers);
  }

  writeOwn(): void {
    for (const chunk of this.#parts.body ?? []) this.write(chunk);
    this.#client?.end();
  }

  resume(): void {
    this.#client?.resumeBody();
  }

  /** The request is given up from outside. */
  abandon(error: Error): void {
    if (this.#over) return;
    this.#settle();
    this.#acquired?.cancel();
    this.#client?.abort(error);
  }

  informational(head: ResponseHead): void {
    this.#owner.inform(head);
  }

  response(head: ResponseHead, hasBody: boolean): void {
    clearTimeout(this.#timer);
    const { host } = this.#parts;
    const outcome: TryOutcome = {
      kind: 'response',
      status: head.status,
      grpcStatus: grpcStatusOf(head.headers),
    };
    if (this.#owner.tryOver(outcome, host, false)) {
      this.#discard(head, hasBody);
      return;
    }
    this.#owner.respond(head, hasBody);
    if (!hasBody) this.#settle();
  }

  /** Reads a short answer to its end, so that the connection can be used for the next try. */
  #discard(head: ResponseHead, hasBody: boolean): void {
    this.#settle();
    this.#discarding = true;
    const length = Number(head.headers.get('content-length') ?? '0');
    if (hasBody && length > maxDiscardBytes) this.#client?.abort(new Error('answer not wanted'));
  }

  data(chunk: Buffer): void {
    if (this.#discarding) {
      this.#discarded += chunk.length;
      if (this.#discarded > maxDiscardBytes) this.#client?.abort(new Error('answer not wanted'));
      return;
    }
    if (!this.#owner.responseData(chunk)) this.#client?.pauseBody();
  }
  #discarded = 0;

  end(trailers: HeaderList | undefined): void {
    if (this.#discarding) return;
    this.#settle();
    this.#owner.responseEnd(trailers);
  }

  upgraded(head: ResponseHead, stream: Parameters<ResponseEvents['upgraded']>[1]): void {
    this.#settle();
    this.#owner.upgraded(head, stream);
  }

  drain(): void {
    this.#owner.writable();
  }

  failed(error: HttpError): void {
    if (this.#discarding) return;
    this.#end({ kind: 'reset', unprocessed: error.unprocessed }, error);
  }

  #timedOut(): void {
    this.#acquired?.cancel();
    const error = new Error('the try took too long');
    const client = this.#client;
    this.#end({ kind: 'try-timeout' }, Object.assign(error, tryTimeout) as unknown as HttpError);
    client?.abort(error);
  }

  #end(outcome: TryOutcome, error: HttpError): void {
    if (this.#over) return;
    this.#settle();
    if (!this.#owner.tryOver(outcome, this.#parts.host, this.#reused)) {
      this.#owner.tryFailed(outcome, error);
    }
  }

  #settle(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    if (!this.#counted) return;
    this.#counted = false;
    this.#parts.host.active -= 1;
    this.#parts.cluster.requests -= 1;
  }
}

const tryTimeout = { code: 'try/timeout', status: 504, unprocessed: false };

function grpcStatusOf(headers: HeaderList): number | undefined {
  const status = headers.get('grpc-status');
  return status !== undefined && /^\d{1,2}$/.test(status) ? Number(status) : undefined;
}

/** What only the proxy may say of a client: taken away first, then set. */
function vouch(
  headers: HeaderList,
  request: RequestHead,
  downstream: Downstream,
  own: string,
): void {
  for (const [name] of [...headers]) if (name.startsWith('x-envoy-')) headers.delete(name);
  headers.set('x-forwarded-client-cert', `By=${own};URI=${downstream.peer.uri}`);
  headers.set('x-forwarded-proto', request.scheme);
}

function valueOf(key: HashKey, request: RequestHead, sourceIp: string): string | undefined {
  switch (key.kind) {
    case 'header':
      return request.headers.get(key.name.toLowerCase());
    case 'source-ip':
      return sourceIp;
    case 'query': {
      const at = request.path.indexOf('?');
      return new URLSearchParams(at < 0 ? '' : request.path.slice(at)).get(key.name) ?? undefined;
    }
    case 'cookie':
      return request.headers
        .all('cookie')
        .flatMap((line) => line.split(';'))
        .map((pair) => pair.trim().split('='))
        .find(([name]) => name === key.name)
        ?.slice(1)
        .join('=');
  }
}

function localReason(status: number, flags: string): string {
  if (flags === 'UH') return 'no healthy upstream';
  if (flags === 'UO')
    return 'upstream connect error or disconnect/reset before headers. reset reason: overflow';
  if (status === 504) return 'upstream request timeout';
  return 'upstream connect error or disconnect/reset before headers';
}

/** An answer of the proxy's own. */
export function answerLocally(
  exchange: ServerExchange,
  status: number,
  body: string,
  changes = noChanges,
  more: readonly (readonly [string, string])[] = [],
): void {
  const grpc =
    exchange.request.headers.get('content-type')?.startsWith('application/grpc') === true;
  const headers = HeaderList.of(more);
  if (grpc && status >= 400) {
    // A gRPC client reads its status from the trailers, here sent with the head.
    headers.set('content-type', 'application/grpc');
    headers.set('grpc-status', String(grpcOf(status)));
    headers.set('grpc-message', encodeURIComponent(body));
    changeHeaders(headers, changes);
    exchange.respond({ status: 200, headers }, false);
    return;
  }
  const bytes = Buffer.from(body);
  if (bytes.length > 0 && !headers.has('content-type')) headers.set('content-type', 'text/plain');
  changeHeaders(headers, changes);
  const hasBody =
    bytes.length > 0 && exchange.request.method !== 'HEAD' && status !== 204 && status !== 304;
  if (hasBody) headers.set('content-length', String(bytes.length));
  exchange.respond({ status, headers }, hasBody);
  if (!hasBody) return;
  exchange.write(bytes);
  exchange.end();
}

function grpcOf(status: number): number {
  switch (status) {
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    default:
      return status === 429 || status >= 500 ? 14 : 2;
  }
}

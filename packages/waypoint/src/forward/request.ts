import { randomUUID } from 'node:crypto';
import type { HttpRoute, Target, WeightedTarget } from '@ambit/api';
import { defaultRetry, noChanges } from '@ambit/api';
import type { Copy } from '@ambit/core';
import { MeshError, copyBothWays } from '@ambit/core';
import type { Downstream, WaypointContext } from '../context.ts';
import { isGrpc } from '../http/grpc.ts';
import type { HeaderList } from '../http/headers.ts';
import { fold } from '../http/vouched.ts';
import type {
  BodySink,
  ExchangeEvents,
  HttpError,
  RequestHead,
  ResponseEvents,
  ResponseHead,
  ServerExchange,
} from '../http/message.ts';
import { changeHeaders, changedByRoute } from '../route/changes.ts';
import type { Known } from '../policy/judge.ts';
import { factsOf } from '../policy/judge.ts';
import type { LateDenial } from '../policy/late-denial.ts';
import type { Admission } from '../policy/admission.ts';
import { deniedNow, lateAnswer, tellLate } from '../policy/admission.ts';
import type { UnderWay } from '../policy/live.ts';
import { verifiedAgain } from '../policy/verify-again.ts';
import type { UpstreamCluster } from './cluster.ts';
import type { EndpointHost, UpstreamProtocol } from './endpoint.ts';
import { answerLocally, localReason } from './local.ts';
import { sendCopies } from './mirror.ts';
import { hashOf } from './balance/hash.ts';
import { chooseProtocol } from './protocol-choice.ts';
import type { RequestRecord } from './record.ts';
import type { TryOutcome } from './retry.ts';
import { grpcStatusOf, reportOf, reportOfGrpc } from './retry.ts';
import { RetryState } from './retry-state.ts';
import { Try } from './try.ts';
import { carryTrace } from './vouch.ts';
import { admitsCopy, destinationOf } from '../policy/destination.ts';
import { setCookie, valueOf } from './hash-key.ts';

/** A body may be repeated while this much of it is all there is. */
const maxReplayBytes = 64 * 1024;
/** Where a request goes and what is done to it on the way. */
export interface ForwardPlan {
  readonly route: HttpRoute | undefined;
  readonly target: Pick<WeightedTarget, 'request' | 'response'>;
  readonly cluster: UpstreamCluster;
  /** As the endpoint gets it. */
  readonly path: string;
  /** What the route leads to; absent for the very service that was asked for. */
  readonly leadsTo?: Target;
  /** By what that let it in, where it is another service with policies of its own: the request is as the route made it. */
  readonly admission?: Admission;
}

/** Carries one request to an endpoint, again where that is allowed, and its answer back. */
export class Forwarding implements ExchangeEvents, BodySink, UnderWay {
  readonly #context: WaypointContext;
  readonly #downstream: Downstream;
  readonly #exchange: ServerExchange;
  readonly #plan: ForwardPlan;
  readonly #record: RequestRecord;
  readonly #retry: RetryState;
  readonly #head: RequestHead;
  readonly #hash: number | undefined;
  #admissionBeyond: Admission | undefined;
  #replay: Buffer[] = [];
  #replayBytes = 0;
  #replayable = true;
  #bodyEnd: { readonly trailers: HeaderList | undefined } | undefined;
  #try: Try | undefined;
  #responded = false;
  #done = false;
  #place: number | undefined;
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
    this.#head = this.#upstreamHead();
    this.#retry = new RetryState(
      plan.route?.retry ?? defaultRetry,
      plan.cluster,
      this.#head.headers,
    );
    this.#hash = this.#hashKey();
    this.#admissionBeyond = plan.admission;
  }

  start(): void {
    this.#place = this.#context.live.add(this);
    this.#exchange.attach(this, this);
    this.#startTry();
  }

  #upstreamHead(): RequestHead {
    const { request } = this.#exchange;
    const { route, target } = this.#plan;
    const headers = request.headers.clone();
    const { trace } = this.#record;
    trace.forwarding();
    carryTrace(headers, trace.forwarded);
    const authority =
      this.#plan.admission === undefined
        ? changedByRoute(headers, request.authority, { route, target }, this.#record)
        : request.authority;
    return {
      method: request.method,
      scheme: request.scheme,
      authority,
      path: this.#plan.path,
      headers,
      protocol: request.protocol,
      // What would change the protocol under the proxy's feet is not passed on.
      upgrade: request.upgrade === 'websocket' ? request.upgrade : undefined,
      expectContinue: false,
    };
  }

  #protocol(cluster: UpstreamCluster): UpstreamProtocol {
    const { request } = this.#exchange;
    return chooseProtocol({
      declared: cluster.declared,
      settings: cluster.settings,
      client: request.protocol,
      grpc: isGrpc(request.headers),
      upgrade: this.#head.upgrade !== undefined,
    });
  }

  #hashKey(): number | undefined {
    const { balancing } = this.#plan.cluster.settings;
    if (balancing.kind !== 'ring-hash' && balancing.kind !== 'maglev') return undefined;
    const value = valueOf(balancing.key, this.#exchange.request, this.#downstream.source.ip);
    if (value !== undefined) return hashOf(value);
    if (balancing.key.kind !== 'cookie' || balancing.key.ttlSeconds === undefined) return undefined;
    const made = randomUUID();
    this.#cookie = setCookie(balancing.key, made);
    return hashOf(made);
  }
  #cookie: string | undefined;

  // The request's body.

  data(chunk: Buffer): void {
    if (this.#done) return;
    this.#record.received(chunk);
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
    if (this.#done) return;
    this.#bodyEnd = { trailers: trailers && this.#withoutSpoken(trailers) };
    // From here on, so that nobody is late for having much to say.
    const timeoutMs = this.#plan.route?.timeoutMs ?? 0;
    if (timeoutMs > 0) this.#timeout = setTimeout(() => this.#timedOut(), timeoutMs);
    this.#try?.startTimer();
    if (this.#try?.ready === true) this.#try.sendEnd(this.#bodyEnd.trailers);
    this.#mirror();
  }

  /** What was said in the head by whoever may is not said again after the body by whoever may not. */
  #withoutSpoken(trailers: HeaderList): HeaderList {
    const { policies } = this.#context;
    const said = new Set<string>();
    this.#head.headers.each((name) => said.add(fold(name)));
    trailers.deleteWhere((name) => said.has(fold(name)));
    for (const one of [this.#downstream, this.#beyond()]) {
      const spoken = one && policies.of(one.targets, one.gateway.namespace).spoken;
      if (spoken !== undefined) trailers.deleteWhere(spoken.isMeant);
    }
    return trailers;
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
    this.#record.clientFailed(error, this.#responded);
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
    const { policy, tried } = this.#retry;
    const host = cluster.pick({
      random,
      nowMs: performance.now(),
      hash: this.#hash,
      exclude: policy.ignorePreviousHosts ? tried : noneTried,
      elsewhere: policy.remoteLocalities && tried.size > 0,
    });
    if (host === undefined) {
      this.#fail(503, 'UH', 'no_healthy_upstream');
      return;
    }
    const { maxRequests } = cluster.settings.pool;
    if (maxRequests !== undefined && cluster.requests >= maxRequests) {
      cluster.observer.overflowed(cluster.name, 'requests');
      this.#fail(503, 'UO', 'overflow');
      return;
    }
    this.#retry.trying(host.id);
    this.#record.host = host;
    this.#record.attempts += 1;
    const attempt = new Try(this, {
      host,
      cluster,
      head: this.#head,
      hasBody: this.#exchange.hasBody,
      client: this.#downstream,
      protocol: this.#protocol(cluster),
      perTryTimeoutMs: policy.perTryTimeoutMs,
    });
    this.#try = attempt;
    attempt.start();
    if (this.#bodyEnd !== undefined) attempt.startTimer();
  }

  /** For the try: it ended without an answer, or with one that has not been passed on. True: another one follows. */
  tryOver(outcome: TryOutcome, host: EndpointHost, reused: boolean): boolean {
    this.#reportOutlier(outcome, host);
    if (this.#done || this.#responded) return false;
    // Only what can be sent again as it was is sent again.
    if (!this.#replayable || this.#head.upgrade !== undefined) return false;
    const verdict = this.#retry.after(outcome, this.#head.method, reused, this.#context.random);
    switch (verdict.kind) {
      case 'again':
        this.#try = undefined;
        this.#wait = setTimeout(() => this.#startTry(), verdict.waitMs);
        return true;
      case 'refused': {
        const { cluster } = this.#plan;
        cluster.observer.overflowed(cluster.name, verdict.limit);
        this.#record.flags = 'UO';
        return false;
      }
      case 'over':
        this.#record.exhausted = verdict.exhausted;
        return false;
    }
  }

  #reportOutlier(outcome: TryOutcome, host: EndpointHost): void {
    const { cluster } = this.#plan;
    if (!cluster.detectsOutliers) return;
    const report = reportOf(outcome);
    this.#awaitsGrpcStatus = report === 'later';
    if (report === 'later' || report === 'none') return;
    cluster.report(host, report, performance.now());
  }
  #awaitsGrpcStatus = false;

  // The answer.

  /** For the try: an answer that is to be passed on. */
  respond({ status, headers }: ResponseHead, hasBody: boolean): void {
    this.#responded = true;
    this.#retry.release();
    this.#record.answered(status, headers);
    this.#changeAnswer(headers);
    this.#exchange.respond({ status, headers }, hasBody);
    if (!hasBody) this.#finish();
  }

  #changeAnswer(headers: HeaderList): void {
    const { route, target } = this.#plan;
    changeHeaders(headers, target.response, this.#record);
    changeHeaders(headers, route?.response ?? noChanges, this.#record);
    if (this.#record.cors !== undefined) changeHeaders(headers, this.#record.cors);
    if (this.#cookie !== undefined) headers.append('set-cookie', this.#cookie);
  }

  inform(head: ResponseHead): void {
    this.#exchange.inform(head);
  }

  responseData(chunk: Buffer): boolean {
    this.#record.sent(chunk);
    return this.#exchange.write(chunk);
  }

  responseEnd(trailers: HeaderList | undefined): void {
    this.#record.trailers(trailers);
    if (this.#awaitsGrpcStatus && this.#record.host !== undefined) {
      const report = reportOfGrpc(grpcStatusOf(trailers) ?? 0);
      this.#plan.cluster.report(this.#record.host, report, performance.now());
    }
    this.#exchange.end(trailers);
    this.#finish();
  }

  upgraded(head: ResponseHead, upstream: Parameters<ResponseEvents['upgraded']>[1]): void {
    this.#record.answered(101, head.headers);
    this.#changeAnswer(head.headers);
    const stream = this.#exchange.upgrade(head);
    if (stream === undefined) {
      upstream.abort(new Error('the client is gone'));
      return;
    }
    clearTimeout(this.#timeout);
    this.#copy = copyBothWays(stream, upstream);
    void this.#copy.done.then(({ sent, received }) => {
      this.#record.bytesReceived += sent;
      this.#record.bytesSent += received;
      this.#finish();
    });
  }

  #copy: Copy | undefined;

  // Policies that change.

  get isBytes(): boolean {
    return this.#copy !== undefined;
  }

  judgeAgain(): LateDenial | undefined {
    const denial = deniedNow(this.#context, this.#downstream, this.#record.admission);
    const beyond = this.#beyond();
    return denial ?? (beyond && deniedNow(this.#context, beyond, this.#letInBeyond()));
  }

  async verifyAgain(): Promise<LateDenial | undefined> {
    const { request } = this.#exchange;
    const denial = await verifiedAgain(this.#context, this.#downstream, request, this.#record);
    const beyond = this.#beyond();
    if (denial !== undefined || beyond === undefined) return denial;
    const letIn = { startTimeMs: this.#record.startTimeMs, admission: this.#letInBeyond() };
    const late = await verifiedAgain(this.#context, beyond, request, letIn, this.#head);
    this.#admissionBeyond = letIn.admission;
    return late;
  }

  tellProgress(): void {
    this.#record.tellMessages();
  }

  /** Nothing held there of its own when the request came: what is judged now is what was sent. */
  #letInBeyond(): Admission {
    return (this.#admissionBeyond ??= { known: this.#knownAsSent(), asked: [] });
  }

  #knownAsSent(): Known {
    const { known } = this.#record.admission;
    return { ...known, request: factsOf(this.#head, known.request?.token) };
  }

  /** The service that the route leads to, where policies of its own hold by now. */
  #beyond(): Downstream | undefined {
    const { leadsTo } = this.#plan;
    return leadsTo && destinationOf(this.#context, this.#downstream, leadsTo);
  }

  cut(denial: LateDenial): void {
    tellLate(this.#context, this.#downstream, denial);
    const { status, details, body } = lateAnswer(denial);
    const error = new MeshError('policy/late-rejection', denial.message);
    this.#record.details = details;
    if (this.#copy !== undefined) {
      this.#copy.abort(error);
      return;
    }
    this.#try?.abandon(error);
    if (this.#responded) this.#exchange.abort(error);
    else {
      this.#record.fail(status, '-', details);
      answerLocally(this.#exchange, status, body);
    }
    this.#finish();
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
    if (outcome.kind === 'overflow') {
      const { cluster } = this.#plan;
      cluster.observer.overflowed(cluster.name, 'pending');
      this.#fail(503, 'UO', 'overflow');
    } else if (outcome.kind === 'connect-failure') {
      this.#fail(503, 'UF', 'upstream_reset_before_response_started{connection_failure}');
    } else if (outcome.kind === 'try-timeout') this.#fail(504, 'UT', 'upstream_per_try_timeout');
    else if (error.code === 'http1/malformed') this.#fail(502, 'UPE', 'upstream_protocol_error');
    else this.#fail(503, 'UC', 'upstream_reset_before_response_started{connection_termination}');
  }

  #timedOut(): void {
    if (this.#done) return;
    const error = new Error('the request took too long');
    const { host } = this.#record;
    const sent = this.#bodyEnd !== undefined || !this.#exchange.hasBody;
    if (this.#try !== undefined && host !== undefined && sent && !this.#responded) {
      this.#reportOutlier({ kind: 'try-timeout' }, host);
    }
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
    const { route, target } = this.#plan;
    const cors = this.#record.cors ?? noChanges;
    answerLocally(this.#exchange, status, localReason(status, flags), {
      changes: [target.response, route?.response ?? noChanges, cors],
      entry: this.#record,
    });
    this.#finish();
  }

  #finish(): void {
    if (this.#done) return;
    this.#done = true;
    if (this.#place !== undefined) this.#context.live.remove(this.#place);
    clearTimeout(this.#timeout);
    clearTimeout(this.#wait);
    this.#retry.release();
    this.#record.finish();
  }

  #mirror(): void {
    const { route } = this.#plan;
    if (route === undefined || route.mirrors.length === 0) return;
    const { hasBody } = this.#exchange;
    const known = this.#knownAsSent();
    sendCopies(this.#context, route.mirrors, {
      allows: (target) => admitsCopy(this.#context, this.#downstream, target, known),
      head: this.#head,
      hasBody,
      body: this.#replayable ? this.#replay : undefined,
      client: this.#downstream,
      protocol: (cluster) => this.#protocol(cluster),
      timeoutMs: route.timeoutMs,
    });
  }
}

const noneTried: ReadonlySet<string> = new Set();

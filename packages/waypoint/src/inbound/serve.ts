import type { CorsPolicy, HttpRoute } from '@ambit/api';
import { noChanges } from '@ambit/api';
import { normalizePath } from '@ambit/core';
import type { Downstream, WaypointContext } from '../context.ts';
import type { UpstreamCluster } from '../forward/cluster.ts';
import { RequestRecord } from '../forward/record.ts';
import { answerLocally } from '../forward/local.ts';
import type { ForwardPlan } from '../forward/request.ts';
import { Forwarding } from '../forward/request.ts';
import { introduce } from '../forward/vouch.ts';
import type { RequestHead, ServerExchange } from '../http/message.ts';
import { accessDenied, deniedNow } from '../policy/admission.ts';
import { destinationOf, serviceBeyond } from '../policy/destination.ts';
import { randomUuid } from '../observe/random.ts';
import { changedByRoute, climbs, locationOf, rewritePath } from '../route/changes.ts';
import { chooseTarget } from '../route/choose.ts';
import { judgeCors } from '../route/cors.ts';
import type { Refuse, Serving } from './admit.ts';
import { admit, hideTokens } from './admit.ts';
import { keyOf } from './plan.ts';

/** Serves one request: normalises, judges, routes, and answers or carries it on. */
export function serveRequest(
  context: WaypointContext,
  downstream: Downstream,
  exchange: ServerExchange,
): void {
  const { request } = exchange;
  // HTTP/1.0 need not say whom it means.
  if (request.authority === '') {
    request.authority = downstream.service?.hostname ?? downstream.authority;
  }
  introduce(context, downstream, request);
  if (!request.headers.has('x-request-id')) request.headers.append('x-request-id', randomUuid());
  const record = new RequestRecord(context, downstream, request);
  const refuse: Refuse = (status, flags, details, body, more = {}) => {
    const { fields, changes = [], grpcStatus } = more;
    record.fail(status, flags, details);
    answerLocally(exchange, status, body, {
      changes: [...changes, record.cors ?? noChanges],
      entry: record,
      ...(fields === undefined ? {} : { fields }),
      ...(grpcStatus === undefined ? {} : { grpcStatus }),
    });
    record.finish();
  };
  hideTokens({ context, downstream, exchange, record });
  const path = normalizePath(request.path);
  if (!path.ok) {
    context.metrics.rejected('bad-path');
    refuse(400, 'DPE', 'path_normalization_failed', path.error);
    return;
  }
  if (request.upgrade !== undefined && request.upgrade !== 'websocket') {
    refuse(403, '-', 'upgrade_failed', '');
    return;
  }
  // What is judged below is what is forwarded: there is only this one path from here on.
  request.path = path.value;
  const serving: Serving = { context, downstream, exchange, record, refuse };
  admit(serving, ({ exchange: passed, admission, isLimited }) => {
    record.admission = admission;
    route({ ...serving, exchange: passed }, isLimited);
  });
}

function route(serving: Serving, isLimited: (route: string) => boolean): void {
  const { context, downstream, exchange, record, refuse } = serving;
  const found = findRoute(context, downstream, exchange.request);
  if (found === 'none') {
    refuse(404, 'NR', 'route_not_found', '');
    return;
  }
  if (found === 'service') {
    if (isLimited(record.route)) return;
    const cluster = ownCluster(context, downstream);
    if (cluster === undefined) {
      refuse(503, 'NC', 'cluster_not_found', 'no such service');
      return;
    }
    record.clusterName = cluster.name;
    new Forwarding(
      context,
      downstream,
      exchange,
      { route: undefined, target: unchanged, cluster, path: exchange.request.path },
      record,
    ).start();
    return;
  }
  record.route = found.name;
  const origin = exchange.request.headers.get('origin');
  if (found.cors !== undefined && origin !== undefined) {
    if (answersCors(serving, found.cors, origin)) return;
  }
  if (isLimited(found.name)) return;
  withFault(serving, found, () => act(serving, found));
}

const unchanged = { request: noChanges, response: noChanges };

function findRoute(
  context: WaypointContext,
  downstream: Downstream,
  request: RequestHead,
): HttpRoute | 'service' | 'none' {
  const { service, sourceWorkload, port } = downstream;
  const table = service && context.state.routes(keyOf(service));
  if (table === undefined) return 'service';
  const index = context.routes.of(table);
  if (index.empty) return 'service';
  const queryAt = request.path.indexOf('?');
  const found = index.find({
    method: request.method,
    scheme: request.scheme,
    authority: request.authority,
    path: queryAt < 0 ? request.path : request.path.slice(0, queryAt),
    query: queryAt < 0 ? '' : request.path.slice(queryAt + 1),
    headers: request.headers,
    upgrade: request.upgrade,
    port,
    sourceNamespace: sourceWorkload?.namespace ?? downstream.peer.namespace,
    sourceLabels: sourceWorkload?.labels ?? [],
  });
  return found?.route ?? 'none';
}

function ownCluster(context: WaypointContext, downstream: Downstream): UpstreamCluster | undefined {
  const { service, workload, port } = downstream;
  if (service !== undefined) return context.clusters.of(service, port);
  return workload && context.clusters.direct(workload, port);
}

function act(serving: Serving, found: HttpRoute): void {
  const { downstream, exchange, record, refuse } = serving;
  const { action } = found;
  const { request } = exchange;
  switch (action.kind) {
    case 'redirect': {
      const location = locationOf(action.redirect, { ...request, port: downstream.port });
      record.details = 'direct_response';
      refuse(action.redirect.status, '-', 'direct_response', '', {
        fields: [['location', location]],
        changes: [found.response],
      });
      return;
    }
    case 'respond': {
      const { body, encoding } = action;
      const bytes = encoding === undefined ? body : Buffer.from(body, encoding);
      refuse(action.status, '-', 'direct_response', bytes, {
        fields: action.body === '' ? [] : [['content-type', action.contentType]],
        changes: [found.response],
      });
      return;
    }
    case 'forward':
      forward(serving, found, action);
  }
}

function forward(
  serving: Serving,
  found: HttpRoute,
  action: Extract<HttpRoute['action'], { readonly kind: 'forward' }>,
): void {
  const { context, downstream, exchange, record, refuse } = serving;
  const { request } = exchange;
  const target = chooseTarget(action.targets, context.random);
  const changes = [target?.response ?? noChanges, found.response];
  if (target === undefined || target.target.kind === 'missing') {
    const why = target?.target.kind === 'missing' ? target.target.why : 'no target has a weight';
    context.logger.debug({ route: found.name, why }, 'request to a missing backend');
    // To gRPC a backend that is not there is one that is not available (GRPCRoute).
    refuse(500, 'NC', 'cluster_not_found', '', { changes, grpcStatus: 14 });
    return;
  }
  const cluster = context.clusters.find(target.target);
  if (cluster === undefined) {
    refuse(503, 'NC', 'cluster_not_found', '', { changes });
    return;
  }
  record.clusterName = cluster.name;
  record.leadsTo = serviceBeyond(context, downstream, target.target);
  const path = rewritePath(request.path, action.rewrite.path);
  if (action.rewrite.path !== undefined && climbs(path)) {
    context.metrics.rejected('bad-path');
    refuse(400, 'DPE', 'path_normalization_failed', 'the rewritten path has dot segments');
    return;
  }
  const plan = { route: found, target, cluster, path, leadsTo: target.target };
  const beyond = destinationOf(context, downstream, target.target);
  if (beyond === undefined) {
    new Forwarding(context, downstream, exchange, plan, record).start();
    return;
  }
  goBeyond({ ...serving, downstream: beyond }, downstream, plan);
}

/**
 * To a service with policies of its own, whose workloads let the waypoint in because it enforces them: what they judge is
 * the request that the service gets, as if it had been asked for that.
 */
function goBeyond(
  serving: Serving,
  downstream: Downstream,
  plan: ForwardPlan & { readonly route: HttpRoute },
): void {
  const { context, exchange, record, refuse } = serving;
  const { request } = exchange;
  hideTokens(serving);
  const path = normalizePath(plan.path);
  if (!path.ok) {
    context.metrics.rejected('bad-path');
    refuse(400, 'DPE', 'path_normalization_failed', path.error);
    return;
  }
  request.path = path.value;
  request.authority = changedByRoute(request.headers, request.authority, plan, record);
  admit(serving, ({ exchange: passed, admission, isLimited }) => {
    if (isLimited(plan.route.name)) return;
    // Tokens and authorizers take their time.
    const denial = deniedNow(context, downstream, record.admission);
    if (denial !== undefined) {
      refuse(403, '-', accessDenied(denial.policy), 'RBAC: access denied');
      return;
    }
    // A token may have been taken out of the path.
    const admitted = { ...plan, path: request.path, admission };
    new Forwarding(context, downstream, passed, admitted, record).start();
  });
}

/** Delays and refuses on purpose, where the route asks for it. */
function withFault(
  { context, downstream, exchange, record, refuse }: Serving,
  { action, fault, response }: HttpRoute,
  go: () => void,
): void {
  const { delay, abort } = fault;
  const { random } = context;
  const then = (): void => {
    if (exchange.gone) {
      record.fail(0, 'DI,DC', 'downstream_remote_disconnect');
      record.finish();
    } else if (abort !== undefined && random() * 100 < abort.percentage) {
      const flags = record.flags === 'DI' ? 'DI,FI' : 'FI';
      // As in Envoy, where a destination has been chosen before.
      const target = action.kind === 'forward' ? chooseTarget(action.targets, random) : undefined;
      refuse(abort.status, flags, 'fault_filter_abort', 'fault filter abort', {
        changes: [target?.response ?? noChanges, response],
        ...(abort.grpcStatus === undefined ? {} : { grpcStatus: abort.grpcStatus }),
      });
    } else go();
  };
  if (delay === undefined || random() * 100 >= delay.percentage) {
    then();
    return;
  }
  record.flags = 'DI';
  setTimeout(() => {
    // Policies may have changed in the meantime.
    const denial = exchange.gone ? undefined : deniedNow(context, downstream, record.admission);
    if (denial === undefined) then();
    else refuse(403, 'DI', accessDenied(denial.policy), 'RBAC: access denied');
  }, delay.ms);
}

/** True when the request was a preflight that has been answered; otherwise the answer's fields are noted. */
function answersCors({ exchange, record }: Serving, cors: CorsPolicy, origin: string): boolean {
  const outcome = judgeCors(cors, origin, exchange.request);
  if (outcome.kind === 'go') {
    record.cors = outcome.changes;
    return false;
  }
  record.fail(200, '-', 'cors_response');
  answerLocally(exchange, 200, '', { changes: [outcome.changes] });
  record.finish();
  return true;
}

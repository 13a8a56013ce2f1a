import { randomUUID } from 'node:crypto';
import type { CorsPolicy, HeaderChanges, HttpRoute, Target, WeightedTarget } from '@ambit/api';
import { noChanges } from '@ambit/api';
import type { Downstream, WaypointContext } from '../context.ts';
import type { UpstreamCluster } from '../forward/cluster.ts';
import { RequestRecord } from '../forward/record.ts';
import { answerLocally } from '../forward/local.ts';
import { Forwarding } from '../forward/request.ts';
import { introduce } from '../forward/vouch.ts';
import type { RequestHead, ServerExchange } from '../http/message.ts';
import { normalizePath } from '../http/path.ts';
import { factsOf, judge, remoteIpOf } from '../policy/judge.ts';
import type { TokenOutcome } from '../policy/tokens.ts';
import { locationOf } from '../route/changes.ts';
import { stringMatches } from '../route/match.ts';
import { keyOf } from './plan.ts';

/** Serves one request: normalises, judges, routes, and answers or carries it on. */
export function serveRequest(
  context: WaypointContext,
  downstream: Downstream,
  exchange: ServerExchange,
): void {
  const { request } = exchange;
  introduce(context, downstream, request);
  if (!request.headers.has('x-request-id')) request.headers.append('x-request-id', randomUUID());
  const record = new RequestRecord(context, downstream, request);
  const refuse = (status: number, flags: string, details: string, body: string, more?: Fields) => {
    record.fail(status, flags, details);
    answerLocally(exchange, status, body, record.cors ?? noChanges, more);
    record.finish();
  };
  const path = normalizePath(request.path);
  if (!path.ok) {
    context.metrics.rejected('bad-path');
    refuse(400, 'DPE', 'path_normalization_failed', path.error);
    return;
  }
  // What is judged below is what is forwarded: there is only this one path from here on.
  request.path = path.value;
  const { targets, gateway } = downstream;
  const judged = (token: TokenOutcome): void => {
    if (token.kind === 'invalid') {
      refuse(401, '-', 'jwt_authn_access_denied', token.message, [
        ['www-authenticate', `Bearer realm="http://${request.authority}/", error="invalid_token"`],
      ]);
      return;
    }
    const facts = factsOf(request, token.kind === 'valid' ? token.token : undefined);
    const decision = judge(context, downstream, {
      request: facts,
      ...remoteIpOf(gateway, downstream, request),
    });
    if (decision.verdict === 'deny') {
      const { policy } = decision.denial;
      refuse(403, '-', `rbac_access_denied_matched_policy[${policy}]`, 'RBAC: access denied');
      return;
    }
    route(context, downstream, exchange, record, refuse);
  };
  if (!context.policies.of(targets, gateway.namespace).asksForTokens) {
    judged({ kind: 'none' });
    return;
  }
  context.tokens.verify(targets, request).then(judged, (error: unknown) => {
    context.logger.error({ err: error }, 'token not verified');
    refuse(401, '-', 'jwt_authn_failed', 'Jwt verification fails');
  });
}

type Fields = readonly (readonly [string, string])[];
type Refuse = (status: number, flags: string, details: string, body: string, more?: Fields) => void;

function route(
  context: WaypointContext,
  downstream: Downstream,
  exchange: ServerExchange,
  record: RequestRecord,
  refuse: Refuse,
): void {
  const found = findRoute(context, downstream, exchange.request);
  if (found === 'none') {
    refuse(404, 'NR', 'route_not_found', '');
    return;
  }
  if (found === 'service') {
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
      { route: undefined, target: unchanged, cluster },
      record,
    ).start();
    return;
  }
  record.route = found.name;
  const origin = exchange.request.headers.get('origin');
  if (found.cors !== undefined && origin !== undefined) {
    const answered = serveCors(found.cors, origin, exchange, record);
    if (answered) return;
  }
  withFault(context, found, record, refuse, () =>
    act({ context, downstream, exchange, record, refuse }, found),
  );
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
    port,
    sourceNamespace: sourceWorkload?.namespace ?? downstream.peer.namespace,
    sourceLabels: sourceWorkload?.labels ?? [],
  });
  return found?.route ?? 'none';
}

function ownCluster(context: WaypointContext, downstream: Downstream): UpstreamCluster | undefined {
  const { service, workload, port } = downstream;
  if (service !== undefined) return context.clusters.find({ service: keyOf(service), port });
  return workload && context.clusters.direct(workload, port);
}

interface Serving {
  readonly context: WaypointContext;
  readonly downstream: Downstream;
  readonly exchange: ServerExchange;
  readonly record: RequestRecord;
  readonly refuse: Refuse;
}

function act({ context, downstream, exchange, record, refuse }: Serving, found: HttpRoute): void {
  const { action } = found;
  const { request } = exchange;
  switch (action.kind) {
    case 'redirect': {
      const location = locationOf(action.redirect, { ...request, port: downstream.port });
      record.details = 'direct_response';
      refuse(action.redirect.status, '-', 'direct_response', '', [['location', location]]);
      return;
    }
    case 'respond':
      refuse(action.status, '-', 'direct_response', action.body, [
        ['content-type', action.contentType],
      ]);
      return;
    case 'forward': {
      const target = chooseTarget(action.targets, context.random);
      if (target === undefined || target.target.kind === 'missing') {
        const why =
          target?.target.kind === 'missing' ? target.target.why : 'no target has a weight';
        context.logger.debug({ route: found.name, why }, 'request to a missing backend');
        refuse(500, 'NC', 'cluster_not_found', '');
        return;
      }
      const cluster = context.clusters.find(target.target);
      if (cluster === undefined) {
        refuse(503, 'NC', 'cluster_not_found', '');
        return;
      }
      record.clusterName = cluster.name;
      new Forwarding(
        context,
        downstream,
        exchange,
        { route: found, target, cluster },
        record,
      ).start();
    }
  }
}

export function chooseTarget<T extends { readonly weight: number; readonly target: Target }>(
  targets: readonly T[],
  random: () => number,
): T | undefined {
  const [only] = targets;
  if (targets.length === 1) return only !== undefined && only.weight > 0 ? only : undefined;
  const sum = targets.reduce((total, { weight }) => total + weight, 0);
  let at = random() * sum;
  for (const target of targets) {
    at -= target.weight;
    if (at < 0) return target;
  }
  return undefined;
}

export type { WeightedTarget };

/** Delays and refuses on purpose, where the route asks for it. */
function withFault(
  { random }: WaypointContext,
  { fault }: HttpRoute,
  record: RequestRecord,
  refuse: Refuse,
  go: () => void,
): void {
  const { delay, abort } = fault;
  const then = (): void => {
    if (abort !== undefined && random() * 100 < abort.percentage) {
      refuse(
        abort.status,
        record.flags === 'DI' ? 'DI,FI' : 'FI',
        'fault_filter_abort',
        'fault filter abort',
      );
    } else go();
  };
  if (delay === undefined || random() * 100 >= delay.percentage) {
    then();
    return;
  }
  record.flags = 'DI';
  setTimeout(then, delay.ms);
}

/** True when the request was a preflight that has been answered; otherwise the answer's fields are noted. */
function serveCors(
  cors: CorsPolicy,
  origin: string,
  exchange: ServerExchange,
  record: RequestRecord,
): boolean {
  const { request } = exchange;
  const allowed = cors.allowOrigins.some(
    (one) => (one.kind === 'exact' && one.value === '*') || stringMatches(one, origin),
  );
  const preflight =
    request.method === 'OPTIONS' && request.headers.has('access-control-request-method');
  if (!allowed) {
    if (!preflight || cors.forwardUnmatchedPreflights) return false;
    record.fail(200, '-', 'cors_response');
    answerLocally(exchange, 200, '');
    record.finish();
    return true;
  }
  const set: (readonly [string, string])[] = [['access-control-allow-origin', origin]];
  if (cors.allowCredentials) set.push(['access-control-allow-credentials', 'true']);
  if (!preflight) {
    if (cors.exposeHeaders.length > 0) {
      set.push(['access-control-expose-headers', cors.exposeHeaders.join(',')]);
    }
    record.cors = changes(set);
    return false;
  }
  if (cors.allowMethods.length > 0) {
    set.push(['access-control-allow-methods', cors.allowMethods.join(',')]);
  }
  if (cors.allowHeaders.length > 0) {
    set.push(['access-control-allow-headers', cors.allowHeaders.join(',')]);
  }
  if (cors.maxAgeSeconds !== undefined) {
    set.push(['access-control-max-age', String(cors.maxAgeSeconds)]);
  }
  record.fail(200, '-', 'cors_response');
  answerLocally(exchange, 200, '', changes(set));
  record.finish();
  return true;
}

function changes(set: HeaderChanges['set']): HeaderChanges {
  return { remove: [], set, add: [] };
}

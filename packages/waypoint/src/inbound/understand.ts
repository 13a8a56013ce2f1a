import type { Port, Rule } from '@ambit/api';
import { declaredProtocol } from '@ambit/api';
import type { ByteStream } from '@ambit/core';
import type { Downstream, WaypointContext } from '../context.ts';
import type { Http1Limits } from '../http1/limits.ts';
import { keyOf } from './plan.ts';
import type { Look, Sniffed } from './protocol.ts';
import { guardedProtocolOf, httpVersionOf, protocolOf, sniff } from './protocol.ts';

const sniffTimeoutMs = 500;
/** Where somebody has spoken of requests, a client may take its time with the first one. */
const patientSniffMs = 5_000;

/** Nobody has said what it is, and nothing asks. */
const unguarded: Look = {
  decide: protocolOf,
  undecided: 'tcp',
  silent: 'tcp',
  silentMs: sniffTimeoutMs,
  begunMs: sniffTimeoutMs,
};
/** Nobody has said what it is, and something holds for its requests. */
const guarded: Look = {
  decide: guardedProtocolOf,
  undecided: 'http1',
  silent: 'tcp',
  silentMs: patientSniffMs,
  begunMs: patientSniffMs,
};
/** TLS is looked into for its server name only. */
const declaredTls: Look = { ...unguarded, decide: guardedProtocolOf };

export interface Understood extends Sniffed {
  /** Nobody said what the port speaks. */
  readonly undeclared?: true;
}

export interface Understanding {
  readonly done: Promise<Understood>;
  /** Waits no longer for a client that has said nothing; absent where that does not last. */
  readonly giveUp?: () => void;
}

/** Finds out what a client speaks, by what the port says and where that leaves it open by the first bytes. */
export function understand(
  context: WaypointContext,
  downstream: Downstream,
  stream: ByteStream,
  limits: Http1Limits,
): Understanding {
  const { service, port } = downstream;
  const declared = service?.ports.find((one) => one.port === port);
  const protocol = declared && declaredProtocol(declared);
  switch (protocol) {
    case 'tcp':
      return { done: Promise.resolve({ protocol, stream, bytes: Buffer.alloc(0) }) };
    case undefined: {
      const { done } = sniff(stream, expectsRequests(context, downstream) ? guarded : unguarded);
      return { done: done.then((sniffed) => ({ ...sniffed, undeclared: true })) };
    }
    case 'tls':
      return { done: sniff(stream, declaredTls).done };
    default:
      // HTTP too comes in two forms, and nobody speaks first but the client.
      return sniff(stream, {
        decide: httpVersionOf,
        undecided: 'http1',
        silent: 'http1',
        silentMs: limits.idleTimeoutMs,
        begunMs: limits.headTimeoutMs,
      });
  }
}

/** Whether something holds for requests on this very port. */
function expectsRequests(context: WaypointContext, downstream: Downstream): boolean {
  const { service, port, targets, gateway } = downstream;
  const table = service && context.state.routes(keyOf(service));
  const isOfPort = (match: { readonly port?: Port }): boolean =>
    match.port === undefined || match.port === port;
  return (
    (table?.http ?? []).some(({ matches }) => matches.length === 0 || matches.some(isOfPort)) ||
    requestRule(context, downstream) !== undefined ||
    context.policies
      .of(targets, gateway.namespace)
      .requestRules.some((rule) => ruleIsOfPort(rule, port))
  );
}

/** Whether a rule can hold on a port. */
function ruleIsOfPort({ to, when }: Rule, port: Port): boolean {
  const holds = (clause: Rule['when']): boolean =>
    clause.every(
      (match) =>
        match.kind !== 'port' ||
        ((match.values.length === 0 || match.values.includes(port)) &&
          !match.notValues.includes(port)),
    );
  return (to.length === 0 || to.some(holds)) && holds(when);
}

/** What would be passed over in silence, if a connection on which no request can be seen were carried on. */
export function requestRule(
  { policies }: WaypointContext,
  downstream: Downstream,
): string | undefined {
  const { asksForTokens, rateLimits } = policies.of(
    downstream.targets,
    downstream.gateway.namespace,
  );
  if (asksForTokens) return 'a RequestAuthentication';
  const [limit] = rateLimits;
  return limit && `RateLimitPolicy ${limit.namespace}/${limit.name}`;
}

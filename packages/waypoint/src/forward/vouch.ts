import type { Downstream, WaypointContext } from '../context.ts';
import type { HeaderList } from '../http/headers.ts';
import type { RequestHead } from '../http/message.ts';
import { sayWhoCalls } from '../http/vouched.ts';
import { pooledRandomBytes } from '../observe/random.ts';
import { continueTrace, traceHeaderNames, traceHeaders } from '../observe/trace-context.ts';

/** As Istio's default. */
const tracing = { samplingPercent: 1, random: Math.random, randomBytes: pooledRandomBytes };

/** Says in the request who calls, before anything is decided by what it says. */
export function introduce(
  context: WaypointContext,
  downstream: Downstream,
  head: RequestHead,
): void {
  const { uri } = downstream.peer;
  // An annotation may have changed since the tunnel was opened.
  const { xfccClientIdentity, trustedForwarders } = context.gateway() ?? downstream.gateway;
  sayWhoCalls(head.headers, {
    ip: downstream.source.ip,
    scheme: head.scheme,
    certificate: xfccClientIdentity ? `By=${context.identity.uri};URI=${uri}` : undefined,
    trusted: trustedForwarders.length > 0 && trustedForwarders.includes(uri),
  });
}

/** Goes on with the caller's trace in what is sent to an endpoint. */
export function vouch(headers: HeaderList, request: RequestHead): void {
  // The caller's trace goes on; where it told of none, one begins here.
  const trace = continueTrace((name) => request.headers.get(name), tracing);
  for (const name of traceHeaderNames) headers.delete(name);
  for (const [name, value] of traceHeaders(trace)) headers.set(name, value);
}

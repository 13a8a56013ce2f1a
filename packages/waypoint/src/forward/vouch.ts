import type { Downstream, WaypointContext } from '../context.ts';
import type { HeaderList } from '../http/headers.ts';
import type { RequestHead } from '../http/message.ts';
import { sayWhoCalls } from '../http/vouched.ts';
import type { TraceContext } from '../observe/trace-context.ts';
import { formatTraceparent, isTraceHeader, traceHeaders } from '../observe/trace-context.ts';

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

/** Sends the trace on in place of how it came. */
export function carryTrace(headers: HeaderList, trace: TraceContext): void {
  headers.deleteWhere(isTraceHeader);
  if (trace.state === undefined && trace.b3 === undefined) {
    headers.append('traceparent', formatTraceparent(trace));
    return;
  }
  for (const [name, value] of traceHeaders(trace)) headers.append(name, value);
}

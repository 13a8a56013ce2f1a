import { escapeControls } from '@ambit/core';

/** One request as the access log tells it; the fields are those of Envoy's operators. */
export interface AccessEntry {
  readonly startMs: number;
  readonly method: string;
  readonly path: string;
  readonly protocol: string;
  readonly status: number;
  readonly flags: string;
  readonly details: string;
  readonly upstreamFailure: string;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  readonly durationMs: number;
  readonly upstreamServiceTimeMs: number | undefined;
  readonly forwardedFor: string | undefined;
  readonly userAgent: string | undefined;
  readonly requestId: string;
  readonly authority: string;
  readonly upstreamHost: string | undefined;
  readonly upstreamCluster: string | undefined;
  readonly downstreamLocal: string;
  readonly downstreamRemote: string;
  readonly route: string;
}

export interface AccessLog {
  write(entry: AccessEntry): void;
}

export interface LineSink {
  write(lines: string): unknown;
}

const maxValueChars = 2048;
const flushMs = 1;

/** Istio's default access log, as text or as JSON; lines of one turn leave in one write. */
export function createAccessLog(format: 'text' | 'json', sink: LineSink): AccessLog {
  let waiting = '';
  let due = false;
  const flush = (): void => {
    due = false;
    const lines = waiting;
    waiting = '';
    sink.write(lines);
  };
  const render = format === 'text' ? textLine : jsonLine;
  return {
    write(entry) {
      waiting += render(entry);
      if (due) return;
      due = true;
      setTimeout(flush, flushMs);
    },
  };
}

function textLine(entry: AccessEntry): string {
  return (
    `[${new Date(entry.startMs).toISOString()}] "${quoted(entry.method)} ${quoted(entry.path)} ${entry.protocol}" ` +
    `${entry.status} ${entry.flags} ${entry.details} - "${quoted(entry.upstreamFailure)}" ` +
    `${entry.bytesReceived} ${entry.bytesSent} ${entry.durationMs} ${entry.upstreamServiceTimeMs ?? '-'} ` +
    `"${quoted(entry.forwardedFor ?? '-')}" "${quoted(entry.userAgent ?? '-')}" "${quoted(entry.requestId)}" ` +
    `"${quoted(entry.authority)}" "${entry.upstreamHost ?? '-'}" ${entry.upstreamCluster ?? '-'} - ` +
    `${entry.downstreamLocal} ${entry.downstreamRemote} - ${entry.route}\n`
  );
}

const plain = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;

/** A stranger's text between quotes: one event stays one line, and a quote ends nothing. */
function quoted(text: string): string {
  const bounded = text.length > maxValueChars ? text.slice(0, maxValueChars) : text;
  if (plain.test(bounded)) return bounded;
  return escapeControls(bounded).replaceAll('"', '\\"');
}

function jsonLine(entry: AccessEntry): string {
  const bounded = (text: string): string => text.slice(0, maxValueChars);
  return `${JSON.stringify({
    start_time: new Date(entry.startMs).toISOString(),
    method: bounded(entry.method),
    path: bounded(entry.path),
    protocol: entry.protocol,
    response_code: entry.status,
    response_flags: entry.flags,
    response_code_details: entry.details,
    connection_termination_details: null,
    upstream_transport_failure_reason:
      entry.upstreamFailure === '-' ? null : bounded(entry.upstreamFailure),
    bytes_received: entry.bytesReceived,
    bytes_sent: entry.bytesSent,
    duration: entry.durationMs,
    upstream_service_time: entry.upstreamServiceTimeMs ?? null,
    x_forwarded_for: entry.forwardedFor === undefined ? null : bounded(entry.forwardedFor),
    user_agent: entry.userAgent === undefined ? null : bounded(entry.userAgent),
    request_id: bounded(entry.requestId),
    authority: bounded(entry.authority),
    upstream_host: entry.upstreamHost ?? null,
    upstream_cluster: entry.upstreamCluster ?? null,
    upstream_local_address: null,
    downstream_local_address: entry.downstreamLocal,
    downstream_remote_address: entry.downstreamRemote,
    requested_server_name: null,
    route_name: entry.route,
  })}\n`;
}

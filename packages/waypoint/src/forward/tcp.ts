import type { Target } from '@ambit/api';
import type { ByteStream, Copy, CopyOutcome } from '@ambit/core';
import { MeshError, causeChain, copyBothWays, parseAuthority } from '@ambit/core';
import type { Downstream, WaypointContext } from '../context.ts';
import { keyOf } from '../inbound/plan.ts';
import { chooseTarget } from '../route/choose.ts';
import type { Known } from '../policy/judge.ts';
import { judge } from '../policy/judge.ts';
import type { Admission } from '../policy/admission.ts';
import { deniedNow, tellLate } from '../policy/admission.ts';
import { destinationOf, serviceBeyond } from '../policy/destination.ts';
import type { LateDenial } from '../policy/late-denial.ts';
import type { UnderWay } from '../policy/live.ts';
import type { ConnectionFacts } from '../route/l4.ts';
import { connectionTargets } from '../route/l4.ts';
import type { UpstreamCluster } from './cluster.ts';
import { hashOfSource } from './hash-key.ts';
import { limitedLife } from './tcp-life.ts';
import { TcpRecord } from './tcp-record.ts';

/** Carries a connection of which only bytes are known; `sni` is set for TLS, and empty where it names nobody. */
export async function serveTcp(
  context: WaypointContext,
  downstream: Downstream,
  stream: ByteStream,
  sni: string | undefined,
): Promise<void> {
  const record = new TcpRecord(context.telemetry.of(downstream), downstream, sni);
  const refuse = (flags: string, message: string): void => {
    stream.abort(new Error(message));
    record.failed(flags, message);
    tell(context, downstream, flags, message);
  };
  const known = sni === undefined || sni === '' ? {} : { sni };
  const decision = judge(context, downstream, known);
  if (decision.verdict === 'deny') {
    refuse('DENY', decision.denial.message);
    return;
  }
  const place = placeOf(context, downstream, sni);
  if (typeof place === 'string') {
    refuse('NC', place);
    return;
  }
  const { cluster, leadsTo } = place;
  const denied = deniedBeyond(context, downstream, leadsTo, known);
  if (denied !== undefined) {
    refuse('DENY', denied);
    return;
  }
  record.upstreamCluster = cluster.name;
  record.leadsTo = leadsTo && serviceBeyond(context, downstream, leadsTo);
  const host = cluster.pick({
    random: context.random,
    nowMs: performance.now(),
    hash: hashOfSource(cluster.settings, downstream.source.ip),
    exclude: new Set(),
  });
  if (host === undefined) {
    refuse('UH', 'no healthy endpoint');
    return;
  }
  const { maxConnections } = cluster.settings.pool;
  if (maxConnections !== undefined && cluster.requests >= maxConnections) {
    cluster.observer.overflowed(cluster.name, 'connections');
    refuse('UO', 'as many connections as allowed');
    return;
  }
  record.host = host;
  host.active += 1;
  cluster.requests += 1;
  try {
    const opened = await context.open(host, { client: downstream, protocol: 'tcp' }, cluster);
    const upstream = opened.stream;
    cluster.report(host, 'success', performance.now());
    const judgeAgain = lateJudge(context, downstream, leadsTo, { known, asked: [] });
    const late = judgeAgain();
    if (late !== undefined) {
      upstream.abort(new Error(late.message));
      refuse('DENY', late.message);
      return;
    }
    const limits = limitedLife(cluster.settings.pool);
    const copy = copyBothWays(stream, upstream, limits.options);
    limits.begin(copy);
    const { broken } = await whole(context, { downstream, judgeAgain, record, copy });
    limits.end();
    context.logger.debug(
      { cluster: cluster.name, ...copy.counts, broken: broken?.error.message },
      'connection complete',
    );
  } catch (error) {
    cluster.report(host, 'local-origin', performance.now());
    refuse('UF', causeChain(error));
  } finally {
    host.active -= 1;
    cluster.requests -= 1;
  }
}

interface Carried {
  readonly downstream: Downstream;
  readonly judgeAgain: UnderWay['judgeAgain'];
  readonly record: TcpRecord;
  readonly copy: Copy;
}

/** Follows a copy until both sides have ended, or policies no longer let it. */
async function whole(
  context: WaypointContext,
  { downstream, judgeAgain, record, copy }: Carried,
): Promise<CopyOutcome> {
  const underWay: UnderWay = {
    isBytes: true,
    judgeAgain,
    cut: (denial) => {
      tellLate(context, downstream, denial);
      record.cut('DENY', denial.message);
      copy.abort(new MeshError('policy/late-rejection', denial.message));
    },
  };
  record.opened(copy.counts);
  const place = context.live.add(underWay);
  const outcome = await copy.done;
  context.live.remove(place);
  record.closed(outcome);
  return outcome;
}

function tell(
  context: WaypointContext,
  downstream: Downstream,
  flags: string,
  message: string,
): void {
  context.metrics.rejected(`tcp-${flags}`);
  context.logger.warn(
    {
      'src.identity': downstream.peer.uri,
      'dst.service': downstream.service?.hostname,
      flags,
      error: message,
    },
    'connection refused',
  );
}

interface Place {
  readonly cluster: UpstreamCluster;
  /** What a route leads to. */
  readonly leadsTo?: Target;
}

/** Where a connection goes, or why it goes nowhere. */
function placeOf(
  context: WaypointContext,
  downstream: Downstream,
  sni: string | undefined,
): Place | string {
  const { service, workload, port } = downstream;
  if (service === undefined) {
    return workload === undefined
      ? 'nothing to go to'
      : { cluster: context.clusters.direct(workload, port) };
  }
  const table = context.state.routes(keyOf(service));
  const targets = table && connectionTargets(table, factsOf(downstream, sni));
  if (targets === undefined) {
    const own = context.clusters.of(service, port);
    return own === undefined ? 'no such service' : { cluster: own };
  }
  const chosen = chooseTarget(targets, context.random);
  if (chosen === undefined) return 'no route takes it, or no target has a weight';
  if (chosen.target.kind === 'missing') return chosen.target.why;
  const cluster = context.clusters.find(chosen.target);
  if (cluster === undefined) return 'no such service or subset';
  return { cluster, leadsTo: chosen.target };
}

/** Judges a connection by the policies of now, those of what a route leads to as well. */
function lateJudge(
  context: WaypointContext,
  downstream: Downstream,
  leadsTo: Target | undefined,
  admission: Admission,
): () => LateDenial | undefined {
  return () => {
    const beyond = leadsTo && destinationOf(context, downstream, leadsTo);
    const denial = deniedNow(context, downstream, admission);
    return denial ?? (beyond && deniedNow(context, beyond, admission));
  };
}

/** Why the service that a route leads to does not let a connection in. */
function deniedBeyond(
  context: WaypointContext,
  downstream: Downstream,
  leadsTo: Target | undefined,
  known: Known,
): string | undefined {
  const beyond = leadsTo && destinationOf(context, downstream, leadsTo);
  if (beyond === undefined) return undefined;
  const { asksForTokens } = context.policies.of(beyond.targets, beyond.gateway.namespace);
  if (asksForTokens) return 'a RequestAuthentication holds there, and a connection has no tokens';
  const decision = judge(context, beyond, known);
  return decision.verdict === 'deny' ? decision.denial.message : undefined;
}

/** What was asked for: an address, or a service by its name. */
function factsOf(downstream: Downstream, sni: string | undefined): ConnectionFacts {
  const { service, port, sourceWorkload, peer, authority } = downstream;
  const asked = parseAuthority(authority);
  return {
    port,
    sourceNamespace: sourceWorkload?.namespace ?? peer.namespace,
    sourceLabels: sourceWorkload?.labels ?? [],
    destinations:
      asked.ok && asked.value.kind === 'address' ? [asked.value.ip] : (service?.vips ?? []),
    sni,
  };
}

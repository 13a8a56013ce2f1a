import type { TcpMatch, WeightedTarget } from '@ambit/api';
import { cidrContains } from '@ambit/api';
import type { ByteStream } from '@ambit/core';
import { causeChain, copyBothWays } from '@ambit/core';
import type { Downstream, WaypointContext } from '../context.ts';
import { keyOf } from '../inbound/plan.ts';
import { chooseTarget } from '../inbound/serve.ts';
import { judge } from '../policy/judge.ts';
import { sourceMatches } from '../route/match.ts';
import type { UpstreamCluster } from './cluster.ts';

/** Carries a connection of which only bytes are known. */
export async function serveTcp(
  context: WaypointContext,
  downstream: Downstream,
  stream: ByteStream,
  sni: string | undefined,
): Promise<void> {
  const refuse = (flags: string, message: string): void => {
    stream.abort(new Error(message));
    tell(context, downstream, flags, message);
  };
  const decision = judge(context, downstream, sni === undefined ? {} : { sni });
  if (decision.verdict === 'deny') {
    refuse('DENY', decision.denial.message);
    return;
  }
  const cluster = clusterOf(context, downstream, sni);
  if (typeof cluster === 'string') {
    refuse('NC', cluster);
    return;
  }
  const host = cluster.pick({
    random: context.random,
    nowMs: performance.now(),
    hash: undefined,
    exclude: new Set(),
  });
  if (host === undefined) {
    refuse('UH', 'no healthy endpoint');
    return;
  }
  const { maxConnections } = cluster.settings.pool;
  if (maxConnections !== undefined && cluster.requests >= maxConnections) {
    refuse('UO', 'as many connections as allowed');
    return;
  }
  host.active += 1;
  cluster.requests += 1;
  try {
    const upstream = await context.open(host, downstream.peer.uri, cluster);
    const copy = copyBothWays(stream, upstream);
    const figures = context.metrics.tcp({
      source: downstream.sourceWorkload,
      sourcePrincipal: downstream.peer.uri,
      destination: host.workload,
      service: downstream.service,
      protocol: 'tcp',
      flags: '-',
    });
    figures.opened();
    const { sent, received, broken } = await copy.done;
    figures.closed(sent, received);
    context.logger.debug(
      { cluster: cluster.name, sent, received, broken: broken?.error.message },
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

function clusterOf(
  context: WaypointContext,
  downstream: Downstream,
  sni: string | undefined,
): UpstreamCluster | string {
  const { service, workload, port } = downstream;
  if (service === undefined) {
    return workload === undefined ? 'nothing to go to' : context.clusters.direct(workload, port);
  }
  const table = context.state.routes(keyOf(service));
  const targets = targetsFor(downstream, table?.tls ?? [], table?.tcp ?? [], sni);
  if (targets === undefined) {
    return context.clusters.find({ service: keyOf(service), port }) ?? 'no such service';
  }
  const chosen = chooseTarget(targets, context.random);
  if (chosen === undefined) return 'no target has a weight';
  if (chosen.target.kind === 'missing') return chosen.target.why;
  return context.clusters.find(chosen.target) ?? 'no such service or subset';
}

/** The targets of the first route that matches; undefined where no route speaks of such connections. */
function targetsFor(
  downstream: Downstream,
  tls: readonly {
    matches: readonly (TcpMatch & { sniHosts: readonly string[] })[];
    targets: readonly WeightedTarget[];
  }[],
  tcp: readonly { matches: readonly TcpMatch[]; targets: readonly WeightedTarget[] }[],
  sni: string | undefined,
): readonly WeightedTarget[] | undefined {
  if (sni !== undefined && tls.length > 0) {
    const route = tls.find(({ matches }) =>
      matches.some((match) => sniMatches(match.sniHosts, sni) && tcpMatches(match, downstream)),
    );
    return route?.targets ?? [];
  }
  if (tcp.length === 0) return undefined;
  const route = tcp.find(
    ({ matches }) => matches.length === 0 || matches.some((match) => tcpMatches(match, downstream)),
  );
  return route?.targets ?? [];
}

export function sniMatches(hosts: readonly string[], sni: string): boolean {
  const name = sni.toLowerCase();
  return (
    hosts.length === 0 ||
    hosts.some((host) => (host.startsWith('*') ? name.endsWith(host.slice(1)) : name === host))
  );
}

function tcpMatches(match: TcpMatch, downstream: Downstream): boolean {
  const { service, port, sourceWorkload, peer } = downstream;
  const facts = {
    port,
    sourceNamespace: sourceWorkload?.namespace ?? peer.namespace,
    sourceLabels: sourceWorkload?.labels ?? [],
  };
  if (!sourceMatches(match, facts)) return false;
  const vips = service?.vips ?? [];
  return (
    match.destinationSubnets.length === 0 ||
    match.destinationSubnets.some((range) => vips.some((ip) => cidrContains(range, ip)))
  );
}

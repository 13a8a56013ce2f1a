import { formatSocketAddress } from '@ambit/api';
import type { ConnectionRecord } from '../connections.ts';
import type { ProxyContext } from '../context.ts';
import type { InboundPlan } from './plan.ts';

/** What nobody acts on: policies in dry run that would have refused, and those that only want to know. */
export function tellPolicies(
  { metrics, logger }: Pick<ProxyContext, 'metrics' | 'logger'>,
  record: ConnectionRecord,
  { kind, dryRun = [], audited = [] }: InboundPlan,
): void {
  if (dryRun.length + audited.length === 0) return;
  const what = {
    'src.identity': record.sourceIdentity,
    'src.addr': record.source && formatSocketAddress(record.source),
    'dst.addr': formatSocketAddress(record.destination),
    'dst.workload': record.destinationWorkload?.name,
    'dst.namespace': record.destinationWorkload?.namespace,
    verdict: kind === 'deliver' ? 'allow' : 'deny',
  };
  for (const { policy, would } of dryRun) {
    metrics.dryRun.inc({ policy, would });
    if (would === 'deny') logger.info({ policy, ...what }, 'dry run: the policy would deny this');
  }
  for (const policy of audited) {
    metrics.audited.inc({ policy });
    logger.info({ policy, ...what }, 'audit: the policy asks for this to be told');
  }
}

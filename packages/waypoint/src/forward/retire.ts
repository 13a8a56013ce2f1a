import type { MeshState } from '@ambit/core';
import type { UpstreamCluster } from './cluster.ts';

/** Connections that were made with a credential end with their requests when it changes or goes. */
export function retireWithCredentials(
  state: Pick<MeshState, 'subscribe'>,
  clusters: Iterable<Pick<UpstreamCluster, 'settings' | 'pool'>>,
): void {
  state.subscribe((changes) => {
    const changed = changes.get('credential');
    if (changed === undefined) return;
    for (const { settings, pool } of clusters) {
      const { tls } = settings;
      if (tls?.mode !== 'simple' && tls?.mode !== 'mutual') continue;
      if (tls.source.kind === 'credential' && changed.has(tls.source.name)) pool.close();
    }
  });
}

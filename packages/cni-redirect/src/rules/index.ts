import type { PodCapture } from './plan.ts';
import { defaultCapture, planPodRules } from './plan.ts';
import { renderTable, renderTableRemoval } from './render.ts';
import type { PodScripts } from './routing.ts';
import { renderRouting, renderRoutingRemoval } from './routing.ts';

export type { PodCapture } from './plan.ts';
export type { PodScripts, RoutingScript } from './routing.ts';
export { defaultCapture } from './plan.ts';

/** The rules that let no connection begin, put in place before a new pod's capture is made. */
export function renderClosedRules(pod: PodCapture): PodScripts {
  return { nft: renderTable(planPodRules(pod, 'closed')), routing: [] };
}

/** The rules that capture a pod: idempotent, and applying them again keeps open connections. */
export function renderPodRules(pod: PodCapture): PodScripts {
  return {
    nft: renderTable(planPodRules(pod, 'captured')),
    routing: renderRouting(pod.families),
  };
}

/**
 * Leaving the mesh in two phases: `drain` takes no new connection and keeps those that were redirected, `delete` removes
 * everything once they have ended. `leave` is for who cannot wait so long: what connections past the proxy may still
 * need stays, and takes nothing.
 */
export function renderRemoval(phase: 'drain' | 'leave' | 'delete'): PodScripts {
  if (phase === 'delete') return { nft: renderTableRemoval(), routing: renderRoutingRemoval() };
  const nft = renderTable(planPodRules(defaultCapture, 'draining'));
  return { nft, routing: phase === 'leave' ? renderRoutingRemoval() : [] };
}

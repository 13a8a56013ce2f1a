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
 * everything once they have ended.
 */
export function renderRemoval(phase: 'drain' | 'delete'): PodScripts {
  if (phase === 'drain')
    return { nft: renderTable(planPodRules(defaultCapture, 'draining')), routing: [] };
  return { nft: renderTableRemoval(), routing: renderRoutingRemoval() };
}

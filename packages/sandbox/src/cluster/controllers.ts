import type { Controller, ControllerContext } from './controller.ts';
import { startDaemonSets } from './daemon-sets.ts';
import { startDeployments } from './deployments.ts';
import { startEndpointSlices } from './endpoint-slices.ts';
import { startJobs } from './jobs.ts';
import { startNamespaces } from './namespaces.ts';
import { startReplicaSets } from './replica-sets.ts';
import { startScheduler } from './scheduler.ts';
import { startStatefulSets } from './stateful-sets.ts';

/** Starts every controller of the control plane; `apiCa` is what `kube-root-ca.crt` holds. */
export function startControllers(
  context: ControllerContext,
  options: { readonly apiCa: string },
): Controller {
  const controllers = [
    startNamespaces(context, options.apiCa),
    startScheduler(context),
    startReplicaSets(context),
    startDeployments(context),
    startDaemonSets(context),
    startStatefulSets(context),
    startJobs(context),
    startEndpointSlices(context),
  ];
  return {
    async close() {
      await Promise.all(controllers.map((controller) => controller.close()));
    },
  };
}

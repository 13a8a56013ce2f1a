import type { Controller, ControllerContext } from './controller.ts';
import { startDeployments } from './deployments.ts';
import { startEndpointSlices } from './endpoint-slices.ts';
import { startReplicaSets } from './replica-sets.ts';
import { startScheduler } from './scheduler.ts';

/** Starts every controller of the control plane. */
export function startControllers(
  context: ControllerContext,
  _options: { readonly apiCa: string },
): Controller {
  const controllers = [
    startScheduler(context),
    startReplicaSets(context),
    startDeployments(context),
    startEndpointSlices(context),
  ];
  return {
    async close() {
      await Promise.all(controllers.map((controller) => controller.close()));
    },
  };
}

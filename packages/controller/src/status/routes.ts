import { isDeepStrictEqual } from 'node:util';

import type { ReadableCollection } from '../collections/collection.ts';
import type { GatewayRoute } from '../collections/gateway-routes.ts';
import type { MeshCollections } from '../collections/mesh.ts';
import { field, list } from '../kube/decode/fields.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Gate } from '../kube/reconciler.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { Log } from '../log.ts';
import type { Ownership } from '../ownership.ts';
import type { ResourceDefinition } from '../resources/crd.ts';
import {
  grpcRouteResource,
  httpRouteResource,
  tcpRouteResource,
  tlsRouteResource,
} from '../resources/gateway-api.ts';
import type { GatewayRouteKind, ParentOutcome } from '../translate/gateway-route.ts';
import type { Wanted } from './conditions.ts';
import { setConditions } from './conditions.ts';
import { controllerName } from './controller-name.ts';
import { patchStatus } from './patch.ts';
import { statusRefused } from './refused.ts';

export interface RouteStatusOptions {
  readonly client: KubeClient;
  /** Open while this controller is the one that writes. */
  readonly gate: Gate;
  readonly ownership: Ownership;
  readonly collections: MeshCollections;
  readonly nowMs: () => number;
  readonly log: Log;
}

/** A source record, of which only the status is looked at. */
type Records = ReadableCollection<{ readonly status: unknown }>;

/** Tells on routes of the Gateway API what became of them. Of another controller's parents what was said stays. */
export function startRouteStatus(options: RouteStatusOptions): { close(): Promise<void> } {
  const { sources, l7 } = options.collections;
  const { HTTPRoute, GRPCRoute, TCPRoute, TLSRoute } = l7.gatewayRoutes;
  const writers = [
    follow(options, HTTPRoute, sources.httpRoutes),
    follow(options, GRPCRoute, sources.grpcRoutes),
    follow(options, TCPRoute, sources.tcpRoutes),
    follow(options, TLSRoute, sources.tlsRoutes),
  ];
  return {
    close: async () => {
      await Promise.all(writers.map((one) => one.close()));
    },
  };
}

function follow(
  { client, gate, ownership, collections, nowMs, log }: RouteStatusOptions,
  routes: ReadableCollection<GatewayRoute>,
  records: Records,
): { close(): Promise<void> } {
  const reconciler = createReconciler({
    gate,
    run: async (key) => {
      collections.flush();
      const route = routes.get(key);
      const record = records.get(key);
      if (route === undefined || record === undefined) return;
      const { meta, compiled, kind } = route;
      if (!ownership.owns(meta)) return;
      const parents = parentsToWrite(record.status, compiled.parents, meta.generation, nowMs());
      if (parents === undefined) return;
      const { plural, versions } = routeResources[kind];
      for (const version of versions) {
        const path = `/apis/gateway.networking.k8s.io/${version}/namespaces/${meta.namespace}/${plural}/${meta.name}`;
        // Not every cluster serves every version.
        if (await patchStatus(client, { path, meta, status: { parents } })) break;
      }
      const [problem] = route.problems;
      if (problem !== undefined) log.warn({ ...problem }, 'route not applied as written');
    },
    onError: statusRefused(log, (key) => key),
  });
  routes.onChange((key) => reconciler.enqueue(key));
  records.onChange((key) => reconciler.enqueue(key));
  ownership.follow(routes, (key) => reconciler.enqueue(key));
  return reconciler;
}

/** Pure: `status.parents` as it is to be; undefined when it is so. */
export function parentsToWrite(
  status: unknown,
  outcomes: readonly ParentOutcome[],
  generation: number,
  nowMs: number,
): readonly unknown[] | undefined {
  const before = list(field(status, 'parents'));
  const own = before.filter((one) => field(one, 'controllerName') === controllerName);
  const others = before.filter((one) => !own.includes(one));
  const wanted = outcomes.map((outcome) => {
    const found = own.find((one) => isDeepStrictEqual(field(one, 'parentRef'), outcome.parent));
    const conditions =
      setConditions(found, conditionsOf(outcome), generation, nowMs) ??
      list(field(found, 'conditions'));
    return { parentRef: outcome.parent, controllerName, conditions };
  });
  const stands =
    own.length === wanted.length &&
    wanted.every((one) => own.some((other) => isDeepStrictEqual(other, one)));
  return stands ? undefined : [...others, ...wanted];
}

function conditionsOf({ accepted, resolvedRefs }: ParentOutcome): readonly Wanted[] {
  return (
    [
      ['Accepted', accepted],
      ['ResolvedRefs', resolvedRefs],
    ] as const
  ).map(([type, { status, reason, message }]) => ({
    type,
    status: status ? 'True' : 'False',
    reason,
    message,
  }));
}

const routeResources: Readonly<Record<GatewayRouteKind, ResourceDefinition>> = {
  HTTPRoute: httpRouteResource,
  GRPCRoute: grpcRouteResource,
  TCPRoute: tcpRouteResource,
  TLSRoute: tlsRouteResource,
};

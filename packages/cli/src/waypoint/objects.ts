import { hbonePort, waypointClass, waypointForLabel } from '@ambit/api';
import { CliError } from '../errors.ts';
import type { Kube, KubeObject } from '../kube.ts';

export const purposes = ['service', 'workload', 'all', 'none'] as const;
export type Purpose = (typeof purposes)[number];

export interface WaypointWish {
  readonly name: string;
  readonly namespace: string;
  /** Left to the default, service, when absent. */
  readonly purpose: Purpose | undefined;
  readonly revision: string | undefined;
}

/** Pure: the Gateway that makes the controller deploy a waypoint. */
export function gatewayOf({ name, namespace, purpose, revision }: WaypointWish): KubeObject {
  const labels = {
    ...(purpose === undefined ? {} : { [waypointForLabel]: purpose }),
    ...(revision === undefined ? {} : { 'istio.io/rev': revision }),
  };
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { name, namespace, ...(Object.keys(labels).length === 0 ? {} : { labels }) },
    spec: {
      gatewayClassName: waypointClass,
      listeners: [{ name: 'mesh', port: hbonePort, protocol: 'HBONE' }],
    },
  };
}

/** What a Gateway, or else its class, says it is for; the controller takes what it does not know for `service`. */
export function purposeOf({ metadata }: KubeObject, classLabels: Labels): Purpose {
  const written = metadata.labels?.[waypointForLabel] ?? classLabels[waypointForLabel];
  return purposes.find((one) => one === written) ?? 'service';
}

type Labels = Readonly<Record<string, string>>;

/** The labels of the class of waypoints; none where it is not there or may not be read. */
export async function classLabelsOf(kube: Kube): Promise<Labels> {
  const path = `/apis/gateway.networking.k8s.io/v1/gatewayclasses/${waypointClass}`;
  const { status, text } = await kube.read(path);
  return status === 200 ? ((JSON.parse(text) as KubeObject).metadata.labels ?? {}) : {};
}

export function gatewayPath(namespace: string, name = ''): string {
  const collection = `/apis/gateway.networking.k8s.io/v1/namespaces/${namespace}/gateways`;
  return name === '' ? collection : `${collection}/${name}`;
}

export const allGatewaysPath = '/apis/gateway.networking.k8s.io/v1/gateways';

export function isWaypoint({ spec }: KubeObject): boolean {
  return spec?.['gatewayClassName'] === waypointClass;
}

/** `namespace/name`. */
export function keyOf({ metadata }: KubeObject): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`;
}

const label = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** The name, if it is one that Kubernetes takes (RFC 1123 label); its Service and its certificate are called so too. */
export function labelName(what: string, name: string): string {
  if (label.test(name)) return name;
  throw new CliError(
    `${what} ${JSON.stringify(name)} is no name: at most 63 lower case letters, digits and '-', with a letter or digit at both ends`,
  );
}

export function conditionOf(
  { status }: KubeObject,
  type: string,
): { readonly status: string; readonly reason: string; readonly message: string } {
  const found = status?.conditions?.find((one) => one.type === type);
  return {
    status: found?.status ?? 'Unknown',
    reason: found?.reason ?? 'Pending',
    message: found?.message ?? 'the controller has not said anything yet',
  };
}

/** Columns of equal width, as kubectl prints them. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('   ')
        .trimEnd(),
    )
    .join('\n');
}

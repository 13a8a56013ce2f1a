import { createHash } from 'node:crypto';
import type { JsonObject } from './object.ts';
import type { Registry, ResourceDefinition, ServedVersion } from './registry.ts';
import { joinApiVersion } from './registry.ts';

export const serverVersion = {
  major: '1',
  minor: '34',
  gitVersion: 'v1.34.0+ambit',
  gitCommit: '',
  gitTreeState: 'clean',
  buildDate: '2025-08-27T00:00:00Z',
  goVersion: 'go1.24.0',
  compiler: 'gc',
  platform: 'linux/amd64',
} as const;

interface ServedGroup {
  readonly name: string;
  /** The preferred one first. */
  readonly versions: readonly string[];
}

function groups(registry: Registry): ServedGroup[] {
  const found = new Map<string, Set<string>>();
  for (const { key, versions } of registry.all()) {
    const known = found.get(key.group) ?? new Set();
    for (const { name, served } of versions) if (served) known.add(name);
    found.set(key.group, known);
  }
  return [...found].map(([name, versions]) => ({ name, versions: [...versions].sort(byPriority) }));
}

/** Kubernetes' order: v2 before v1 before v1beta2 before v1alpha1, and other names last. */
function byPriority(a: string, b: string): number {
  const rank = (name: string): readonly number[] => {
    const match = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(name);
    if (match === null) return [0, 0, 0];
    const stage = match[2] === undefined ? 3 : match[2] === 'beta' ? 2 : 1;
    return [stage, Number(match[1]), Number(match[3] ?? 0)];
  };
  const [left, right] = [rank(a), rank(b)];
  const index = left.findIndex((part, at) => part !== right[at]);
  return index < 0 ? (a < b ? -1 : 1) : (right[index] ?? 0) - (left[index] ?? 0);
}

function servedIn(
  registry: Registry,
  group: string,
  version: string,
): [ResourceDefinition, ServedVersion][] {
  return registry
    .all()
    .filter(({ key }) => key.group === group)
    .flatMap((definition) =>
      definition.versions
        .filter(({ name, served }) => served && name === version)
        .map((one): [ResourceDefinition, ServedVersion] => [definition, one]),
    )
    .sort(([a], [b]) => (a.key.resource < b.key.resource ? -1 : 1));
}

/** `/api`. */
export function coreVersions(serverAddress: string): JsonObject {
  return {
    kind: 'APIVersions',
    versions: ['v1'],
    serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress }],
  };
}

/** `/apis`. */
export function groupList(registry: Registry): JsonObject {
  return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups(registry).flatMap(groupObject) };
}

/** `/apis/<group>`. */
export function groupDocument(registry: Registry, name: string): JsonObject | undefined {
  const [found] = groups(registry)
    .filter((group) => group.name === name)
    .flatMap(groupObject);
  return found === undefined ? undefined : { kind: 'APIGroup', apiVersion: 'v1', ...found };
}

function groupObject({ name, versions }: ServedGroup): JsonObject[] {
  if (name === '') return [];
  const listed = versions.map((version) => ({
    groupVersion: joinApiVersion(name, version),
    version,
  }));
  return listed.length === 0 ? [] : [{ name, versions: listed, preferredVersion: listed[0] }];
}

/** `/api/v1` and `/apis/<group>/<version>`; undefined where nothing of it is served. */
export function resourceList(
  registry: Registry,
  group: string,
  version: string,
): JsonObject | undefined {
  const served = servedIn(registry, group, version);
  if (served.length === 0) return undefined;
  const resources = served.flatMap(([definition, one]) => [
    {
      name: definition.key.resource,
      singularName: definition.singular,
      namespaced: definition.namespaced,
      kind: definition.kind,
      verbs: definition.verbs,
      ...(definition.shortNames.length === 0 ? {} : { shortNames: definition.shortNames }),
      ...(definition.categories.length === 0 ? {} : { categories: definition.categories }),
      storageVersionHash: createHash('sha256')
        .update(`${group}/${definition.storageVersion}/${definition.kind}`)
        .digest('base64')
        .slice(0, 12),
    },
    ...subresourcesOf(definition, one).map(
      ({ name, kind, verbs, group: kindGroup, version: kindVersion }) => ({
        name: `${definition.key.resource}/${name}`,
        singularName: '',
        namespaced: definition.namespaced,
        ...(kindGroup === undefined ? {} : { group: kindGroup, version: kindVersion }),
        kind,
        verbs,
      }),
    ),
  ]);
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: joinApiVersion(group, version),
    resources,
  };
}

interface Subresource {
  readonly name: string;
  readonly kind: string;
  readonly verbs: readonly string[];
  readonly group?: string;
  readonly version?: string;
}

const changeVerbs = ['get', 'patch', 'update'];
const foreignKinds = new Map<string, { readonly group: string; readonly version: string }>([
  ['Eviction', { group: 'policy', version: 'v1' }],
  ['TokenRequest', { group: 'authentication.k8s.io', version: 'v1' }],
]);

function subresourcesOf(definition: ResourceDefinition, version: ServedVersion): Subresource[] {
  return [
    ...definition.subresources.map((one) => ({ ...one, ...foreignKinds.get(one.kind) })),
    ...(version.scale === undefined
      ? []
      : [
          { name: 'scale', kind: 'Scale', verbs: changeVerbs, group: 'autoscaling', version: 'v1' },
        ]),
    ...(version.status ? [{ name: 'status', kind: definition.kind, verbs: changeVerbs }] : []),
  ];
}

/** `/api` (core) or `/apis` (all others) with everything in one document. */
export function aggregated(registry: Registry, core: boolean, apiVersion: string): JsonObject {
  const items = groups(registry)
    .filter(({ name }) => (name === '') === core)
    .map(({ name, versions }) => ({
      metadata: { ...(name === '' ? {} : { name }), creationTimestamp: null },
      versions: versions.map((version) => ({
        version,
        freshness: 'Current',
        resources: servedIn(registry, name, version).map(([definition, one]) => ({
          resource: definition.key.resource,
          responseKind: { group: '', version: '', kind: definition.kind },
          scope: definition.namespaced ? 'Namespaced' : 'Cluster',
          singularResource: definition.singular,
          verbs: definition.verbs,
          ...(definition.shortNames.length === 0 ? {} : { shortNames: definition.shortNames }),
          ...(definition.categories.length === 0 ? {} : { categories: definition.categories }),
          subresources: subresourcesOf(definition, one).map((sub) => ({
            subresource: sub.name,
            responseKind: { group: sub.group ?? '', version: sub.version ?? '', kind: sub.kind },
            verbs: sub.verbs,
          })),
        })),
      })),
    }));
  return { kind: 'APIGroupDiscoveryList', apiVersion, metadata: {}, items };
}

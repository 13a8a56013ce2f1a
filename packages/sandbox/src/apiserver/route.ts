import type { ResourceKey } from './object.ts';

/** Where in the API a path points. */
export interface ApiRoute {
  readonly key: ResourceKey;
  readonly version: string;
  readonly namespace?: string | undefined;
  readonly name?: string | undefined;
  readonly subresource?: string | undefined;
}

/**
 * Reads a path of the API; undefined where it is no resource's.
 * @param segments of the path, decoded
 */
export function parseRoute(segments: readonly string[]): ApiRoute | undefined {
  const [root, ...rest] = segments;
  if (root === 'api') {
    const [version, ...path] = rest;
    return version === undefined ? undefined : routeAt('', version, path);
  }
  if (root !== 'apis') return undefined;
  const [group, version, ...path] = rest;
  return group === undefined || version === undefined ? undefined : routeAt(group, version, path);
}

function routeAt(group: string, version: string, path: readonly string[]): ApiRoute | undefined {
  if (path.length === 0 || path.some((segment) => segment === '')) return undefined;
  const [first, second, third] = path;
  const ofNamespace =
    group === '' && (third === 'status' || third === 'finalize') && path.length === 3;
  if (first === 'namespaces' && path.length >= 3 && !ofNamespace) {
    const [, namespace, resource = '', name, subresource, ...more] = path;
    return more.length > 0
      ? undefined
      : { key: { group, resource }, version, namespace, name, subresource };
  }
  const [resource = '', name, subresource, ...more] = path;
  if (more.length > 0) return undefined;
  const namespace = group === '' && first === 'namespaces' ? second : undefined;
  return { key: { group, resource }, version, namespace, name, subresource };
}

/** The RBAC verb of a request. */
export function verbOf(method: string, route: ApiRoute, watching: boolean): string {
  switch (method) {
    case 'POST':
      return 'create';
    case 'PUT':
      return 'update';
    case 'PATCH':
      return 'patch';
    case 'DELETE':
      return route.name === undefined ? 'deletecollection' : 'delete';
    default:
      if (watching) return 'watch';
      return route.name === undefined ? 'list' : 'get';
  }
}

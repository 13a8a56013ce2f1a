import { ApiError } from './errors.ts';
import type { JsonObject } from './object.ts';
import { objectsAt, objectAt, stringAt, stringsAt } from './object.ts';
import type { ResourceStore } from './resource-store.ts';
import type { User } from './tokens.ts';

/** What is asked for, in RBAC's terms; a path alone for what is no resource. */
export type Attributes =
  | {
      readonly kind: 'resource';
      readonly verb: string;
      readonly group: string;
      readonly resource: string;
      readonly subresource?: string | undefined;
      readonly namespace?: string | undefined;
      readonly name?: string | undefined;
    }
  | { readonly kind: 'path'; readonly verb: string; readonly path: string };

const rbac = 'rbac.authorization.k8s.io';

/** True where a stored binding, or membership of `system:masters`, grants it. There is nothing that denies. */
export function isAllowed(store: ResourceStore, user: User, asked: Attributes): boolean {
  if (user.groups.includes('system:masters')) return true;
  return rulesOf(store, user, asked.kind === 'resource' ? asked.namespace : undefined).some(
    (rule) => ruleGrants(rule, asked),
  );
}

/** The rules that hold for a user in a namespace and cluster-wide. */
export function rulesOf(
  store: ResourceStore,
  user: User,
  namespace: string | undefined,
): readonly JsonObject[] {
  const clusterBindings = store.list({ group: rbac, resource: 'clusterrolebindings' }).items;
  const bindings =
    namespace === undefined
      ? []
      : store.list({ group: rbac, resource: 'rolebindings' }, namespace).items;
  return [...clusterBindings, ...bindings].flatMap((binding) => {
    const bound = objectsAt(binding, 'subjects').some((subject) =>
      isSubject(user, subject, binding.metadata.namespace),
    );
    if (!bound) return [];
    const clusterWide = stringAt(binding, 'roleRef', 'kind') === 'ClusterRole';
    const role = store.get(
      { group: rbac, resource: clusterWide ? 'clusterroles' : 'roles' },
      clusterWide ? undefined : binding.metadata.namespace,
      stringAt(binding, 'roleRef', 'name') ?? '',
    );
    return role === undefined ? [] : objectsAt(role, 'rules');
  });
}

function isSubject(user: User, subject: JsonObject, bindingNamespace: string | undefined): boolean {
  const name = stringAt(subject, 'name') ?? '';
  switch (subject['kind']) {
    case 'User':
      return user.username === name;
    case 'Group':
      return user.groups.includes(name);
    case 'ServiceAccount':
      return (
        user.username ===
        `system:serviceaccount:${stringAt(subject, 'namespace') ?? bindingNamespace ?? ''}:${name}`
      );
    default:
      return false;
  }
}

function ruleGrants(rule: JsonObject, asked: Attributes): boolean {
  const has = (field: string, value: string): boolean => {
    const given = stringsAt(rule, field);
    return given.includes('*') || given.includes(value);
  };
  if (!has('verbs', asked.verb)) return false;
  if (asked.kind === 'path') {
    return stringsAt(rule, 'nonResourceURLs').some(
      (url) => url === asked.path || (url.endsWith('*') && asked.path.startsWith(url.slice(0, -1))),
    );
  }
  const resource =
    asked.subresource === undefined ? asked.resource : `${asked.resource}/${asked.subresource}`;
  const anyOfSub =
    asked.subresource !== undefined &&
    stringsAt(rule, 'resources').includes(`*/${asked.subresource}`);
  const names = stringsAt(rule, 'resourceNames');
  return (
    has('apiGroups', asked.group) &&
    (has('resources', resource) || anyOfSub) &&
    (names.length === 0 || (asked.name !== undefined && names.includes(asked.name)))
  );
}

/** The 403 in the real API server's words. */
export function refuse(user: User, asked: Attributes): ApiError {
  const who = `User "${user.username}" cannot ${asked.verb}`;
  if (asked.kind === 'path') {
    return new ApiError(403, 'Forbidden', `forbidden: ${who} path "${asked.path}"`, {});
  }
  const { group, name = '', namespace } = asked;
  const resource =
    asked.subresource === undefined ? asked.resource : `${asked.resource}/${asked.subresource}`;
  const object = `${asked.resource}${group === '' ? '' : `.${group}`}${name === '' ? '' : ` "${name}"`}`;
  const where =
    namespace === undefined ? 'at the cluster scope' : `in the namespace "${namespace}"`;
  return new ApiError(
    403,
    'Forbidden',
    `${object} is forbidden: ${who} resource "${resource}" in API group "${group}" ${where}`,
    { ...(name === '' ? {} : { name }), ...(group === '' ? {} : { group }), kind: asked.resource },
  );
}

/** The attributes of a `SubjectAccessReview`'s spec. */
export function attributesOf(spec: JsonObject): Attributes {
  const asked = objectAt(spec, 'resourceAttributes');
  if (spec['resourceAttributes'] === undefined) {
    const path = objectAt(spec, 'nonResourceAttributes');
    return { kind: 'path', verb: stringAt(path, 'verb') ?? '', path: stringAt(path, 'path') ?? '' };
  }
  const text = (field: string): string | undefined => stringAt(asked, field) || undefined;
  return {
    kind: 'resource',
    verb: text('verb') ?? '',
    group: text('group') ?? '',
    resource: text('resource') ?? '',
    subresource: text('subresource'),
    namespace: text('namespace'),
    name: text('name'),
  };
}

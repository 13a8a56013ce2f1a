import type { ApiContext, ResourceCall } from './context.ts';
import { attributesOf, isAllowed } from './authorize.ts';
import { badRequest } from './errors.ts';
import { decodeObject, sendJson } from './http.ts';
import type { JsonObject } from './object.ts';
import { isObject, objectAt, stringAt, stringsAt } from './object.ts';
import type { User } from './tokens.ts';

/** Answers the kinds that are asked and never stored. */
export function review(context: ApiContext, call: ResourceCall): void {
  const sent = call.body.length === 0 ? {} : decodeObject(call.body, call.contentType);
  const { kind, key } = call.definition;
  const spec = objectAt(sent, 'spec');
  const answer = ((): JsonObject => {
    switch (kind) {
      case 'TokenReview':
        return { spec, status: reviewToken(context, spec) };
      case 'SelfSubjectReview':
        return { status: { userInfo: userInfo(call.user) } };
      case 'SelfSubjectAccessReview':
        return { spec, status: access(context, call.user, spec) };
      default:
        return { spec, status: access(context, subjectOf(spec), inNamespace(spec, call)) };
    }
  })();
  sendJson(call.response, 201, {
    kind,
    apiVersion: `${key.group}/${call.route.version}`,
    metadata: { creationTimestamp: null },
    ...answer,
  });
}

function reviewToken({ tokens }: ApiContext, spec: JsonObject): JsonObject {
  const token = stringAt(spec, 'token') ?? '';
  if (token === '')
    throw badRequest(
      'spec.token: Required value: token is required for TokenReview in authentication',
    );
  const asked = stringsAt(spec, 'audiences');
  const checked = tokens.verify(token, asked.length === 0 ? undefined : asked);
  if (!checked.ok) return { authenticated: false, user: {}, error: checked.why };
  return { authenticated: true, user: userInfo(checked.user), audiences: checked.audiences };
}

function userInfo({ username, uid, groups, extra }: User): JsonObject {
  return {
    username,
    ...(uid === undefined ? {} : { uid }),
    groups,
    ...(extra === undefined ? {} : { extra }),
  };
}

function access({ store }: ApiContext, user: User, spec: JsonObject): JsonObject {
  if (isObject(spec['resourceAttributes']) === isObject(spec['nonResourceAttributes'])) {
    throw badRequest(
      'spec: exactly one of nonResourceAttributes or resourceAttributes must be specified',
    );
  }
  const allowed = isAllowed(store, user, attributesOf(spec));
  return allowed ? { allowed, reason: 'allowed by RBAC' } : { allowed };
}

function subjectOf(spec: JsonObject): User {
  return { username: stringAt(spec, 'user') ?? '', groups: stringsAt(spec, 'groups') };
}

function inNamespace(spec: JsonObject, { route, definition }: ResourceCall): JsonObject {
  if (!definition.namespaced) return spec;
  const attributes = objectAt(spec, 'resourceAttributes');
  if (stringAt(attributes, 'namespace') !== route.namespace) {
    throw badRequest('spec.resourceAttributes.namespace: must match metadata.namespace');
  }
  return spec;
}

import { createHash } from 'node:crypto';
import type { ApiContext } from './context.ts';
import { crdKey } from './crds.ts';
import {
  aggregated,
  coreVersions,
  groupDocument,
  groupList,
  resourceList,
  serverVersion,
} from './discovery.ts';
import { ApiError, pathNotFound } from './errors.ts';
import { discoveryVersion, mediaTypes } from './negotiate.ts';
import type { OpenApiInput } from '../schema/index.ts';
import { openApiV2, openApiV3, openApiV3Index } from '../schema/index.ts';
import { isObject } from './object.ts';

/** An answer to a path that is no resource. */
export interface Answer {
  readonly body: unknown;
  readonly contentType?: string;
  readonly text?: true;
}

/** Paths that anyone may ask, signed in or not. */
export const openPaths = new Set(['/healthz', '/livez', '/readyz', '/version', '/version/']);

/** What a path that is no resource answers. @throws ApiError NotFound, NotAcceptable */
export function answerPath(context: ApiContext, path: string, accept: string | undefined): Answer {
  const { registry } = context.store;
  const fixed = fixedPath(context, path);
  if (fixed !== undefined) return fixed;
  const segments = path.split('/').filter((part) => part !== '');
  const [root, group = '', version = ''] = segments;
  if (root === 'openapi') return openApi(context, segments.slice(1).join('/'), accept);
  if ((root === 'api' || root === 'apis') && segments.length === 1) {
    const wanted = discoveryVersion(accept);
    if (wanted !== undefined) {
      return {
        body: aggregated(registry, root === 'api', `apidiscovery.k8s.io/${wanted}`),
        contentType: `application/json;g=apidiscovery.k8s.io;v=${wanted};as=APIGroupDiscoveryList`,
      };
    }
    return { body: root === 'api' ? coreVersions(context.serverAddress()) : groupList(registry) };
  }
  const found = ((): unknown => {
    if (root === 'api' && segments.length === 2) return resourceList(registry, '', group);
    if (root === 'apis' && segments.length === 2) return groupDocument(registry, group);
    return root === 'apis' && segments.length === 3
      ? resourceList(registry, group, version)
      : undefined;
  })();
  if (found === undefined) throw pathNotFound();
  return { body: found };
}

function fixedPath({ tokens }: ApiContext, path: string): Answer | undefined {
  switch (path.replace(/(.)\/$/, '$1')) {
    case '/':
      return {
        body: {
          paths: [
            '/api',
            '/apis',
            '/healthz',
            '/livez',
            '/openapi/v2',
            '/openapi/v3',
            '/readyz',
            '/version',
          ],
        },
      };
    case '/healthz':
    case '/livez':
    case '/readyz':
      return { body: 'ok', text: true };
    case '/version':
      return { body: serverVersion };
    case '/.well-known/openid-configuration':
      return {
        body: {
          issuer: tokens.issuer,
          jwks_uri: `${tokens.issuer}/openid/v1/jwks`,
          response_types_supported: ['id_token'],
          subject_types_supported: ['public'],
          id_token_signing_alg_values_supported: ['RS256'],
        },
      };
    case '/openid/v1/jwks':
      return { body: tokens.jwks(), contentType: 'application/jwk-set+json' };
    default:
      return undefined;
  }
}

function openApi(context: ApiContext, path: string, accept: string | undefined): Answer {
  const input = openApiInput(context);
  if (path === 'v2') {
    const types = mediaTypes(accept).map(({ type }) => type);
    if (
      !types.some(
        (type) =>
          type === '' || type === '*/*' || type === 'application/*' || type === 'application/json',
      )
    ) {
      throw new ApiError(406, 'NotAcceptable', 'only application/json is served of /openapi/v2');
    }
    return { body: openApiV2(input) };
  }
  if (path === 'v3') return { body: withHashes(openApiV3Index(input), input) };
  const groupVersion = path.replace(/^v3\/(?:apis|api)\//, '');
  const document = path.startsWith('v3/') ? openApiV3(groupVersion, input) : undefined;
  if (document === undefined) throw pathNotFound();
  return { body: document };
}

/** Clients keep a document under its hash, so a changed definition must change the address. */
function withHashes(index: unknown, input: OpenApiInput): unknown {
  const paths = isObject(index) && isObject(index['paths']) ? index['paths'] : {};
  const hash = createHash('sha256')
    .update(JSON.stringify(input))
    .digest('hex')
    .toUpperCase()
    .slice(0, 32);
  return {
    paths: Object.fromEntries(
      Object.entries(paths).map(([name, one]) => {
        const url = isObject(one) ? String(one['serverRelativeURL']) : '';
        return [name, { serverRelativeURL: `${url}?hash=${hash}` }];
      }),
    ),
  };
}

function openApiInput({ store }: ApiContext): OpenApiInput {
  const resources = store.registry
    .all()
    .filter(({ custom }) => !custom)
    .flatMap(({ key, kind, namespaced, versions }) =>
      versions.map(({ name }) => ({
        group: key.group,
        version: name,
        kind,
        plural: key.resource,
        namespaced,
      })),
    );
  return { resources, crds: store.list(crdKey).items };
}

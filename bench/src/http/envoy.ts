import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Path of a real Envoy, where scripts/lib/envoy.mjs could fetch one. */
export function envoyBinary(root: string): string | undefined {
  const binary = join(root, '.cache/envoy/envoy/_bin/envoy');
  return existsSync(binary) ? binary : undefined;
}

export interface EnvoyTarget {
  readonly host: string;
  readonly http1: number;
  readonly http2: number;
  /** Ports on which it listens for HTTP/1.1 and HTTP/2. */
  readonly listen: readonly [http1: number, http2: number];
  readonly routes: number;
  readonly policies: number;
}

const httpOptions = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';

/** A configuration that does the same work: as many routes and policies, and an access log. */
export function envoyConfig(target: EnvoyTarget): string {
  const { host, http1, http2, listen } = target;
  return JSON.stringify({
    static_resources: {
      listeners: [listener('http1', listen[0], target), listener('http2', listen[1], target)],
      clusters: [
        cluster('http1', host, http1, {}),
        cluster('http2', host, http2, {
          typed_extension_protocol_options: {
            [httpOptions]: {
              '@type': `type.googleapis.com/${httpOptions}`,
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
        }),
      ],
    },
  });
}

function typed(name: string, config: object): object {
  return { '@type': `type.googleapis.com/${name}`, ...config };
}

function listener(name: string, port: number, { routes, policies }: EnvoyTarget): object {
  const rules = Array.from({ length: policies }, (_, index) => [
    `p-${index}`,
    {
      permissions: [{ url_path: { path: { prefix: `/forbidden-${index}` } } }],
      principals: [{ any: true }],
    },
  ]);
  const manager = {
    stat_prefix: name,
    codec_type: 'AUTO',
    access_log: [
      {
        name: 'envoy.access_loggers.file',
        typed_config: typed('envoy.extensions.access_loggers.file.v3.FileAccessLog', {
          path: '/dev/null',
        }),
      },
    ],
    http_filters: [
      {
        name: 'envoy.filters.http.rbac',
        typed_config: typed('envoy.extensions.filters.http.rbac.v3.RBAC', {
          rules: { action: 'DENY', policies: Object.fromEntries(rules) as object },
        }),
      },
      {
        name: 'envoy.filters.http.router',
        typed_config: typed('envoy.extensions.filters.http.router.v3.Router', {}),
      },
    ],
    route_config: {
      virtual_hosts: [
        {
          name: 'all',
          domains: ['*'],
          routes: Array.from({ length: routes }, (_, index) => ({
            match: { prefix: `/path-${index}` },
            route: { cluster: name },
          })).reverse(),
        },
      ],
    },
  };
  return {
    name,
    address: { socket_address: { address: '::', port_value: port, ipv4_compat: true } },
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: typed(
              'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
              manager,
            ),
          },
        ],
      },
    ],
  };
}

function cluster(name: string, host: string, port: number, more: object): object {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '5s',
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: [
            { endpoint: { address: { socket_address: { address: host, port_value: port } } } },
          ],
        },
      ],
    },
    ...more,
  };
}

/** One worker, and nothing on the terminal but what went wrong. */
export const envoyArguments = (file: string): string[] => [
  '--config-path',
  file,
  '--concurrency',
  '1',
  '--log-level',
  'error',
  '--disable-hot-restart',
];

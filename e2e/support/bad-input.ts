/** One thing that an owner got wrong, who is told of it, and what becomes of the traffic of Service `reviews`. */
export interface BadInput {
  readonly what: string;
  /** The first one is told on its status. */
  readonly objects: readonly [object, ...object[]];
  /** By validation, when it is applied: nothing of it depends on other objects. */
  readonly refused?: true;
  /** On the status: object, field and fix. */
  readonly says: RegExp;
  readonly status: number;
  /** After the request in the waypoint's access log: status, flag and details. */
  readonly logged: RegExp;
  readonly options?: readonly string[];
}

function object(apiVersion: string, kind: string, name: string, spec: object): object {
  return { apiVersion, kind, metadata: { name, namespace: 'shop' }, spec };
}

const istio = 'networking.istio.io/v1';
const gatewayApi = 'gateway.networking.k8s.io/v1';
const security = 'security.istio.io/v1';
const targetRefs = [{ group: '', kind: 'Service', name: 'reviews' }];
const parentRefs = [{ group: '', kind: 'Service', name: 'reviews', port: 8080 }];
const destination = { host: 'reviews' };

function routes(...http: object[]): object {
  return object(istio, 'VirtualService', 'bad', { hosts: ['reviews'], http });
}

function delegate(name: string, to: string): object {
  return object(istio, 'VirtualService', name, { http: [{ delegate: { name: to } }] });
}

function policy(spec: object): object {
  return object(security, 'AuthorizationPolicy', 'bad', { targetRefs, ...spec });
}

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const token = `${part({ alg: 'RS256', kid: 'k' })}.${part({ iss: 'me', exp: 4_000_000_000 })}.c2lnbmVk`;

const inRoutes: readonly BadInput[] = [
  {
    what: 'a VirtualService beside an HTTPRoute of the same Service',
    objects: [
      routes({ directResponse: { status: 418 } }),
      object(gatewayApi, 'HTTPRoute', 'other', {
        parentRefs,
        rules: [{ backendRefs: [{ name: 'reviews', port: 8080 }] }],
      }),
    ],
    says: /spec\.hosts\[0\]: .*HTTPRoute\/shop\/other/,
    status: 200,
    logged: /200 - /,
  },
  {
    what: 'two actions of one route that contradict each other',
    refused: true,
    objects: [routes({ route: [{ destination }], redirect: { uri: '/else' } })],
    says: /spec\.http\[0\]\.\w+: .*requests are answered 500/,
    status: 500,
    logged: /500 NC /,
  },
  {
    what: 'a subset that nobody defines',
    objects: [routes({ route: [{ destination: { ...destination, subset: 'v9' } }] })],
    says: /spec\.http\[0\]\.route\[0\]\.destination\.subset: no DestinationRule defines subset/,
    status: 503,
    logged: /503 (NC|UH) /,
  },
  {
    what: 'a cycle of delegates',
    objects: [
      routes({ delegate: { name: 'one' } }),
      delegate('one', 'two'),
      delegate('two', 'one'),
    ],
    says: /spec\.http\[0\]\.delegate: shop\/one: .*a delegate may not delegate again/,
    status: 500,
    logged: /500 NC /,
  },
  {
    what: 'weights that sum to zero',
    refused: true,
    objects: [
      routes({
        route: [
          { destination, weight: 0 },
          { destination, weight: 0 },
        ],
      }),
    ],
    says: /spec\.http\[0\]\.route: the weights sum to 0; requests are answered 500/,
    status: 500,
    logged: /500 NC /,
  },
  {
    what: 'an expression that RE2 does not know',
    refused: true,
    objects: [routes({ match: [{ uri: { regex: '/(?=a)' } }], route: [{ destination }] })],
    says: /spec\.http\[0\]\.match\[0\]\.uri\.regex: is no regular expression of RE2/,
    status: 500,
    logged: /500 NC /,
  },
  {
    what: 'a backend that is not there',
    objects: [
      object(gatewayApi, 'HTTPRoute', 'bad', {
        parentRefs,
        rules: [{ backendRefs: [{ name: 'nobody', port: 8080 }] }],
      }),
    ],
    says: /spec\.rules\[0\]\.backendRefs\[0\]\.name: there is no Service shop\/nobody/,
    status: 500,
    logged: /500 NC /,
  },
  {
    what: 'an HTTPRoute that breaks its schema',
    refused: true,
    objects: [
      object(gatewayApi, 'HTTPRoute', 'bad', {
        parentRefs,
        rules: [
          {
            matches: [{ headers: [{ name: 'no name', value: 'x' }] }],
            backendRefs: [{ name: 'reviews', port: 8080 }],
          },
        ],
      }),
    ],
    says: /"status":"False".*spec\.rules\[0\]\.matches\[0\]\.headers\[0\]\.name: /,
    status: 500,
    logged: /500 NC /,
  },
  {
    what: 'a Secret that is not there',
    objects: [
      object(istio, 'DestinationRule', 'bad', {
        host: 'reviews',
        trafficPolicy: { tls: { mode: 'MUTUAL', credentialName: 'nobody' } },
      }),
    ],
    says: /spec\.trafficPolicy\.tls\.credentialName: .*shop\/nobody: there is no such Secret/,
    status: 503,
    logged: /503 UF/,
  },
];

const inPolicies: readonly BadInput[] = [
  {
    what: 'a provider that is not there',
    objects: [policy({ action: 'CUSTOM', provider: { name: 'nobody' }, rules: [{}] })],
    says: /spec\.provider\.name: no external authorizer is called .*extensionProviders/,
    status: 403,
    logged: /403 UAEX /,
  },
  {
    what: 'a range of addresses that is none',
    refused: true,
    objects: [
      policy({
        action: 'DENY',
        rules: [{ from: [{ source: { ipBlocks: ['10.0.0.0/99'] } }] }],
      }),
    ],
    says: /spec\.rules\[0\]\.from\[0\]\.source\.ipBlocks\[0\]: /,
    status: 403,
    logged: /403 - rbac_access_denied/,
  },
  {
    what: 'a target that is not there',
    objects: [
      policy({ targetRefs: [{ kind: 'Service', name: 'nobody' }], action: 'DENY', rules: [{}] }),
    ],
    says: /TargetNotFound.*spec\.targetRefs\[0\]\.name: there is no Service shop\/nobody|there is no Service shop\/nobody.*TargetNotFound/,
    status: 200,
    logged: /200 - /,
  },
  {
    what: 'keys that cannot be fetched',
    objects: [
      object(security, 'RequestAuthentication', 'bad', {
        targetRefs,
        jwtRules: [{ issuer: 'me', jwksUri: 'http://nobody.shop.svc.cluster.local:8080/keys' }],
      }),
    ],
    says: /spec\.jwtRules\[0\]\.jwksUri: keys not fetched from .*told by waypoint shop\/waypoint/,
    status: 401,
    logged: /401 - /,
    options: ['-H', `authorization: Bearer ${token}`],
  },
  {
    what: 'a limit of no requests',
    refused: true,
    objects: [
      object('ambit.dev/v1alpha1', 'RateLimitPolicy', 'bad', {
        targetRefs,
        limits: [{ name: 'none', requests: 0, per: '1s' }],
      }),
    ],
    says: /spec\.limits\[0\]\.requests: /,
    status: 200,
    logged: /200 - /,
  },
];

export const badInput: readonly BadInput[] = [...inRoutes, ...inPolicies];

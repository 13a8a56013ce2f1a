import { Environment } from '@marcbachmann/cel-js';
import { describe, expect, test } from '@jest/globals';
import { find, namespace, render } from './helm.ts';

/** What the chart has the API server decide, by the expressions that it hands to it. */
const cel = new Environment({ enableOptionalTypes: true, unlistedVariablesAreDyn: true });
const objects = [...render('controller'), ...render('cni-redirect')];

interface PolicySpec {
  readonly failurePolicy: string;
  readonly matchConditions: readonly { readonly expression: string }[];
  readonly variables?: readonly { readonly name: string; readonly expression: string }[];
  readonly validations: readonly {
    readonly expression: string;
    readonly message?: string;
    readonly messageExpression?: string;
  }[];
}

interface Write {
  readonly resource: string;
  readonly name: string;
  readonly in?: string;
  readonly object?: object | null;
  readonly oldObject?: object | null;
  readonly by?: string;
  /** What the policy is asked about beside the object. */
  readonly params?: object;
}

const controller = `system:serviceaccount:${namespace}:ambit-controller`;

/** Why a policy refuses a write; undefined where it lets it in or does not look at it. */
function refusal(policy: string, write: Write): string | undefined {
  const spec = find(objects, 'ValidatingAdmissionPolicy', policy)['spec'] as PolicySpec;
  const { resource, name, object = null, oldObject = null, by = controller, params } = write;
  const operation = oldObject === null ? 'CREATE' : object === null ? 'DELETE' : 'UPDATE';
  const request = {
    name,
    namespace: write.in ?? 'shop',
    operation,
    resource: { resource },
    userInfo: { username: by },
  };
  const variables: Record<string, unknown> = {};
  const evaluate = (expression: string): unknown =>
    cel.evaluate(expression, { request, object, oldObject, variables, params });
  if (!spec.matchConditions.every(({ expression }) => evaluate(expression) === true))
    return undefined;
  for (const one of spec.variables ?? []) variables[one.name] = evaluate(one.expression);
  const failed = spec.validations.find(({ expression }) => evaluate(expression) !== true);
  return (
    failed &&
    (failed.message ?? String(failed.messageExpression && evaluate(failed.messageExpression)))
  );
}

const deployed = {
  name: 'waypoint',
  labels: { 'gateway.istio.io/managed': 'ambit.dev-mesh-controller' },
  ownerReferences: [
    { apiVersion: 'gateway.networking.k8s.io/v1', kind: 'Gateway', name: 'waypoint', uid: 'u' },
  ],
};

describe('the controller', () => {
  test.each(['deployments', 'services', 'serviceaccounts'])('writes %s of Gateways only', (kind) => {
    const of = (write: Omit<Write, 'resource' | 'name'>): string | undefined =>
      refusal('ambit-controller-deployed', { resource: kind, name: 'a', ...write });
    const own = { metadata: deployed };
    const foreign = { metadata: { name: 'a' } };
    for (const write of [{ object: own }, { object: own, oldObject: own }, { oldObject: own }])
      expect(of(write)).toBeUndefined();
    const refused = `the controller writes what it deployed for a Gateway only: ${kind} shop/a has not the label gateway.istio.io/managed=ambit.dev-mesh-controller and a Gateway that owns it`;
    const labels = { metadata: { name: 'a', labels: deployed.labels } };
    const owned = { metadata: { name: 'a', ownerReferences: deployed.ownerReferences } };
    const other = {
      metadata: { ...deployed, ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet' }] },
    };
    const others = { metadata: { ...deployed, labels: { 'gateway.istio.io/managed': 'other' } } };
    for (const one of [foreign, labels, owned, other, others])
      expect(of({ object: one })).toBe(refused);
    // It takes nothing over, gives nothing away and deletes nothing of others.
    for (const write of [
      { object: own, oldObject: foreign },
      { object: foreign, oldObject: own },
      { oldObject: foreign },
    ])
      expect(of(write)).toBe(refused);
    expect(of({ object: foreign, by: 'system:admin' })).toBeUndefined();
  });

  test('goes on with the ServiceAccount that Istio made for a Gateway, and gives none back', () => {
    const of = (write: Omit<Write, 'name'>): string | undefined =>
      refusal('ambit-controller-deployed', { name: 'a', ...write });
    const own = { metadata: deployed };
    const istios = { 'gateway.istio.io/managed': 'istio.io-mesh-controller' };
    const theirs = { metadata: { ...deployed, labels: istios } };
    const resource = 'serviceaccounts';
    expect(of({ resource, object: own, oldObject: theirs })).toBeUndefined();
    const unowned = { metadata: { name: 'a', labels: istios } };
    for (const write of [
      { resource, object: theirs, oldObject: own },
      { resource, object: theirs, oldObject: theirs },
      { resource, object: theirs },
      { resource, oldObject: theirs },
      { resource, object: own, oldObject: unowned },
      { resource: 'services', object: own, oldObject: theirs },
      { resource: 'deployments', object: own, oldObject: theirs },
    ])
      expect([write, of(write)]).toEqual([write, expect.stringMatching(/for a Gateway only/)]);
  });

  test('deploys proxies under no ServiceAccount that somebody else made', () => {
    const name = 'ambit-controller-accounts';
    const object = { spec: { template: { spec: { serviceAccountName: 'admin' } } } };
    const of = (account: string): string | undefined => {
      const params = { metadata: { name: account, namespace: 'shop' } };
      return refusal(name, { resource: 'deployments', name: 'admin', object, params });
    };
    expect(of('default')).toBeUndefined();
    expect(of('admin')).toBe(
      "the controller deploys proxies as ServiceAccounts of Gateways only: serviceaccounts shop/admin is somebody else's; give the Gateway another name, or delete the account",
    );
    const { spec } = find(objects, 'ValidatingAdmissionPolicyBinding', name);
    const values = ['ambit.dev-mesh-controller', 'istio.io-mesh-controller'];
    const matchExpressions = [{ key: 'gateway.istio.io/managed', operator: 'NotIn', values }];
    const paramRef = { selector: { matchExpressions }, parameterNotFoundAction: 'Allow' };
    expect(spec).toEqual({ policyName: name, validationActions: ['Deny'], paramRef });
  });

  test('deploys proxies that run as themselves and without rights on a node only', () => {
    const container = { name: 'a', securityContext: { allowPrivilegeEscalation: false } };
    const good = { serviceAccountName: 'waypoint', containers: [container] };
    const of = (pod: object): string | undefined =>
      refusal('ambit-controller-proxies', {
        resource: 'deployments',
        name: 'waypoint',
        object: { metadata: deployed, spec: { template: { spec: { ...good, ...pod } } } },
      });
    expect(of({})).toBeUndefined();
    expect(of({ volumes: [{ name: 'a', configMap: { name: 'b' } }] })).toBeUndefined();
    const token = { serviceAccountToken: { path: 'token', audience: 'a' } };
    const capabilities = { drop: ['ALL'], add: ['NET_BIND_SERVICE'] };
    const full = {
      ...container,
      securityContext: { ...container.securityContext, capabilities },
      ports: [{ name: 'mesh', containerPort: 15008 }],
      env: [
        { name: 'A', value: 'a' },
        { name: 'B', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
      ],
      envFrom: [{ configMapRef: { name: 'b' } }],
    };
    const volumes = [{ name: 'a', projected: { sources: [token] } }];
    expect(of({ containers: [full], volumes })).toBeUndefined();
    expect(of({ serviceAccountName: 'admin' })).toMatch(/run as the ServiceAccount of their own/);
    const { securityContext } = container;
    const secret = { name: 'b' };
    const secrets = [
      { volumes: [{ name: 'a', projected: { sources: [{ secret }] } }] },
      { containers: [{ ...container, envFrom: [{ secretRef: secret }] }] },
      {
        containers: [{ ...container, env: [{ name: 'A', valueFrom: { secretKeyRef: secret } }] }],
      },
    ];
    const rights = [
      { containers: [{ ...container, ports: [{ containerPort: 80, hostPort: 80 }] }] },
      {
        containers: [
          {
            ...container,
            securityContext: { ...securityContext, capabilities: { add: ['NET_ADMIN'] } },
          },
        ],
      },
    ];
    for (const pod of [
      { hostNetwork: true },
      { hostPID: true },
      { hostIPC: true },
      { volumes: [{ name: 'a', hostPath: { path: '/' } }] },
      { volumes: [{ name: 'a', secret: { secretName: 'b' } }] },
      { containers: [{ name: 'a' }] },
      { containers: [{ ...container, securityContext: { ...securityContext, privileged: true } }] },
      { initContainers: [{ name: 'a', securityContext: { allowPrivilegeEscalation: true } }] },
      ...secrets,
      ...rights,
    ])
      expect([pod, of(pod)]).toEqual([pod, expect.stringMatching(/without privileges/)]);
  });

  test('goes on with what the owner of a waypoint added to its Deployment, and adds nothing to it', () => {
    const proxy = {
      name: 'istio-proxy',
      image: 'a',
      securityContext: { allowPrivilegeEscalation: false },
    };
    const secret = { name: 'A', valueFrom: { secretKeyRef: { name: 'b', key: 'c' } } };
    const other = { name: 'A', valueFrom: { secretKeyRef: { name: 'b', key: 'd' } } };
    const sidecar = { name: 'log', image: 'b', ports: [{ containerPort: 80, hostPort: 80 }] };
    const volumes = [{ name: 'a', hostPath: { path: '/' } }];
    const envFrom = [{ secretRef: { name: 'b' } }];
    const deployment = (pod: object) => ({
      metadata: deployed,
      spec: { template: { spec: { serviceAccountName: 'waypoint', ...pod } } },
    });
    const of = (now: object, before: object): string | undefined =>
      refusal('ambit-controller-proxies', {
        resource: 'deployments',
        name: 'waypoint',
        object: deployment(now),
        oldObject: deployment(before),
      });
    const theirs = { containers: [{ ...proxy, env: [secret], envFrom }, sidecar], volumes };
    const updated = { ...proxy, image: 'b', env: [{ name: 'B', value: 'b' }, secret], envFrom };
    const host = { containers: [proxy], hostNetwork: true };
    const reader = { ...proxy, name: 'reader', env: [secret] };
    for (const [now, before] of [
      [{ ...theirs, containers: [updated, sidecar] }, theirs],
      [{ containers: [proxy] }, theirs],
      [{ ...theirs, initContainers: [sidecar] }, theirs],
      [host, host],
    ] as const)
      expect([now, of(now, before)]).toEqual([now, undefined]);
    for (const [now, before] of [
      [{ containers: [{ ...proxy, env: [other] }, sidecar] }, theirs],
      [{ containers: [proxy, { ...proxy, name: 'more', env: [secret] }] }, theirs],
      [{ containers: [proxy, { ...sidecar, image: 'c' }] }, theirs],
      [{ containers: [{ ...reader, image: 'c' }] }, { containers: [reader] }],
      [{ ...theirs, volumes: [{ name: 'b', hostPath: { path: '/' } }] }, theirs],
      [{ ...theirs, hostPID: true }, { ...theirs, hostNetwork: true }],
      [theirs, { containers: [proxy] }],
    ] as const)
      expect([now, of(now, before)]).toEqual([now, expect.stringMatching(/without privileges/)]);
  });

  test('writes ConfigMaps, Secrets and Leases of its own names only', () => {
    const of = (resource: string, name: string, where = 'shop'): string | undefined =>
      refusal('ambit-controller-named', { resource, name, in: where, object: {} });
    expect(of('configmaps', 'istio-ca-root-cert')).toBeUndefined();
    expect(of('configmaps', 'ambit-reports-a', namespace)).toBeUndefined();
    expect(of('configmaps', 'ambit-authority', namespace)).toBeUndefined();
    expect(of('secrets', 'istio-ca-secret', namespace)).toBeUndefined();
    expect(of('leases', 'ambit-controller', namespace)).toBeUndefined();
    for (const [resource, name, where] of [
      ['configmaps', 'settings', 'shop'],
      ['configmaps', 'istio', namespace],
      ['configmaps', 'ambit-reports-a', 'shop'],
      ['configmaps', 'ambit-authority', 'shop'],
      ['secrets', 'istio-ca-secret', 'shop'],
      ['secrets', 'cacerts', namespace],
      ['leases', 'other', namespace],
      ['leases', 'istio-ca-secret', namespace],
    ] as const)
      expect(of(resource, name, where)).toMatch(
        new RegExp(`Lease ambit-controller only, and not ${resource} ${where}/${name}$`),
      );
  });

  test('says on pods, namespaces and services to which waypoint they are bound, and nothing else', () => {
    const of = (object: object, oldObject: object): string | undefined =>
      refusal('ambit-controller-status', { resource: 'pods', name: 'a', object, oldObject });
    const ready = { type: 'Ready', status: 'True' };
    const bound = { type: 'istio.io/WaypointBound', status: 'True' };
    const pod = (conditions: readonly object[], metadata: object = {}, status: object = {}) => ({
      metadata: { name: 'a', ...metadata },
      status: { phase: 'Running', podIP: '10.0.0.1', conditions, ...status },
    });
    const before = pod([ready]);
    expect(of(pod([ready, bound]), before)).toBeUndefined();
    expect(of(pod([bound, ready]), pod([ready, bound]))).toBeUndefined();
    for (const type of ['ambit.dev/WaypointRequired', 'ambit.dev/HealthCheck'])
      expect([type, of(pod([ready, { type, status: 'True' }]), before)]).toEqual([type, undefined]);
    expect(of({ metadata: {}, status: { conditions: [bound] } }, { metadata: {} })).toBeUndefined();
    for (const now of [
      pod([{ ...ready, status: 'False' }]),
      pod([]),
      pod([ready], {}, { podIP: '10.0.0.2' }),
      pod([ready], {}, { phase: 'Failed' }),
      pod([ready], {}, { loadBalancer: { ingress: [{ ip: '10.0.0.2' }] } }),
      pod([ready], {}, { startTime: '2026-01-01T00:00:00Z' }),
      pod([ready], {}, { podIP: undefined, qosClass: 'Guaranteed' }),
      { metadata: { name: 'a' }, status: { phase: 'Running', conditions: [ready] } },
    ])
      expect(of(now, before)).toMatch(/which waypoint they are bound to, and of nothing else/);
    for (const metadata of [
      { labels: { a: 'b' } },
      { annotations: { a: 'b' } },
      { finalizers: ['a'] },
      { ownerReferences: [{ uid: 'a' }] },
    ])
      expect(of(pod([ready], metadata), before)).toMatch(/never labels and annotations/);
  });

  test('is the only one whom an expression that fails refuses, and can be let go', () => {
    const policies = objects.filter(
      ({ kind, metadata }) =>
        kind === 'ValidatingAdmissionPolicy' && metadata.name.startsWith('ambit-controller-'),
    );
    expect(policies).toHaveLength(5);
    for (const { metadata, ...rest } of policies) {
      const { failurePolicy, matchConditions } = rest['spec'] as PolicySpec;
      expect(failurePolicy).toBe('Fail');
      expect(matchConditions.map(({ expression }) => expression)).toEqual([
        `request.userInfo.username == '${controller}'`,
      ]);
      expect(find(objects, 'ValidatingAdmissionPolicyBinding', metadata.name)['spec']).toMatchObject({
        policyName: metadata.name,
        validationActions: ['Deny'],
      });
    }
    const off = render('controller', { values: { ownObjectsOnly: false } });
    expect(off.map(({ kind }) => kind).join()).not.toContain('AdmissionPolicy');
  });

  test('of a revision has a Lease of its own, but for the default one', () => {
    const text = (values: object) =>
      JSON.stringify(render('controller', { values: { revision: 'canary', ...values } }));
    expect(text({}).match(/ambit-controller-canary/g)).toHaveLength(4);
    expect(text({ defaultRevision: 'canary' })).not.toContain('ambit-controller-canary');
  });
});

describe('an uninstall', () => {
  const of = (phase: string, write: Omit<Write, 'name' | 'by'>): string | undefined => {
    const by = `system:serviceaccount:${namespace}:ambit-uninstall-${phase}`;
    return refusal(`ambit-uninstall-${phase}`, { name: 'a', in: namespace, by, ...write });
  };

  test('asks the node agents to leave, and changes nothing else of what runs on every node', () => {
    const set = (annotations: object | undefined, more: object = {}, spec: object = {}) => ({
      metadata: { name: 'cni-redirect', ...(annotations && { annotations }), ...more },
      spec: { template: { spec: { containers: [{ name: 'agent', image: 'a' }], ...spec } } },
    });
    const before = set({ note: 'a' });
    const patched = (object: object, oldObject: object = before) =>
      of('release', { resource: 'daemonsets', object, oldObject });
    const asked = set({ note: 'a', 'ambit.dev/leaving': 'true' });
    expect(patched(asked)).toBeUndefined();
    expect(patched(before, asked)).toBeUndefined();
    expect(patched(set({ 'ambit.dev/leaving': 'true' }), set(undefined))).toBeUndefined();
    for (const object of [
      set({ note: 'a' }, {}, { hostPID: true }),
      set({ note: 'a' }, {}, { containers: [{ name: 'agent', image: 'b' }] }),
      set({ note: 'b' }),
      set({ note: 'a', more: 'b' }),
      set(undefined),
      set({ note: 'a' }, { labels: { a: 'b' } }),
      set({ note: 'a' }, { finalizers: ['a/b'] }),
      set({ note: 'a' }, { ownerReferences: [{ uid: 'a' }] }),
    ])
      expect([object, patched(object)]).toEqual([
        object,
        expect.stringMatching(/asks the node agents to leave, .* changes nothing else of it/),
      ]);
  });

  test.each(['deployments', 'services', 'serviceaccounts'])(
    'deletes %s that the controller deployed only',
    (resource) => {
      const deleted = (labels?: object) =>
        of('remove', { resource, oldObject: { metadata: { name: 'a', ...(labels && { labels }) } } });
      expect(deleted(deployed.labels)).toBeUndefined();
      for (const labels of [undefined, {}, { 'gateway.istio.io/managed': 'other' }])
        expect(deleted(labels)).toMatch(
          new RegExp(`deletes what the controller deployed only: ${resource} ${namespace}/a has not`),
        );
    },
  );

  test.each(['release', 'remove'])('is held to it from before its account of phase %s is there', (phase) => {
    const of = (kind: string) =>
      find(objects, kind, `ambit-uninstall-${phase}`).metadata as unknown as {
        annotations: Readonly<Record<string, string>>;
      };
    const { annotations } = of('ServiceAccount');
    for (const kind of ['ValidatingAdmissionPolicy', 'ValidatingAdmissionPolicyBinding']) {
      const own = of(kind).annotations;
      expect(own).toEqual({ ...annotations, 'helm.sh/hook-weight': own['helm.sh/hook-weight'] });
      expect(Number(own['helm.sh/hook-weight'])).toBeLessThan(Number(annotations['helm.sh/hook-weight']));
    }
  });

  test('is let go with the program whose traces it removes', () => {
    const off = render('ambit', {
      values: { 'controller.ownObjectsOnly': false, 'cni-redirect.ownNodeOnly': false },
    });
    expect(off.map(({ kind }) => kind).join()).not.toContain('AdmissionPolicy');
  });
});

test('of the namespaces of a platform the webhook is not asked', () => {
  const webhooks = find(objects, 'ValidatingWebhookConfiguration', 'ambit-validator')[
    'webhooks'
  ] as { name: string; matchConditions: readonly { expression: string }[] }[];
  const webhook = webhooks.find(({ name }) => name === 'validation.ambit.dev');
  const asked = (name: string): boolean =>
    webhook!.matchConditions.every(
      ({ expression }) => cel.evaluate(expression, { request: { namespace: name } }) === true,
    );
  const theirs = ['openshift', 'openshift-ingress', 'gke-managed-system', 'gmp-public'];
  theirs.push('aks-istio-ingress', 'amazon-cloudwatch', 'cattle-system', 'calico-apiserver');
  expect(theirs.filter(asked)).toEqual([]);
  const users = ['shop', 'openshifts', 'gke', 'my-openshift-app', 'default'];
  expect(users.filter(asked)).toEqual(users);
});

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { startTestApi, type TestApi } from './support/api-server.ts';
import { createKubectl, kubectlPath, type Kubectl } from './support/kubectl.ts';

const web = (replicas: number): string => `
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, labels: { app: web } }
spec:
  replicas: ${replicas}
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: web, image: "shop:1", ports: [{ containerPort: 80 }] }] }
`;

const widgets = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: widgets.example.com }
spec:
  group: example.com
  scope: Namespaced
  names: { plural: widgets, kind: Widget, shortNames: [wd] }
  versions:
    - name: v1
      served: true
      storage: true
      subresources: { status: {} }
      additionalPrinterColumns: [{ name: Size, type: integer, jsonPath: .spec.size }]
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [size]
              properties: { size: { type: integer, minimum: 1 }, mode: { type: string, default: fast } }
            status: { type: object, properties: { ready: { type: boolean } } }
`;

const widget = `
apiVersion: example.com/v1
kind: Widget
metadata: { name: a }
spec: { size: 3 }
status: { ready: true }
`;

describe.each(['1.30', '1.34', '1.36'])('kubectl %s', (minor) => {
  let running: TestApi;
  let kubectl: Kubectl;

  beforeAll(async () => {
    running = await startTestApi();
    kubectl = createKubectl(kubectlPath(minor), {
      server: running.server,
      ca: running.ca,
      token: running.api.tokens.adminToken,
    });
  }, 120_000);

  afterAll(async () => {
    kubectl.close();
    await running.api.close();
    expect(running.errors).toEqual([]);
  });

  test('applies, changes and deletes a workload on the client side', async () => {
    expect(await kubectl.out(['apply', '-f', '-'], web(2))).toBe('deployment.apps/web created\n');
    expect(await kubectl.out(['apply', '-f', '-'], web(2))).toBe('deployment.apps/web unchanged\n');
    expect(await kubectl.out(['apply', '-f', '-'], web(3))).toBe(
      'deployment.apps/web configured\n',
    );
    await kubectl.out(['label', 'deploy/web', 'tier=front']);
    await kubectl.out(['annotate', 'deploy/web', 'note=hello']);
    await kubectl.out([
      'patch',
      'deploy/web',
      '-p',
      '{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"shop:2"}]}}}}',
    ]);
    await kubectl.out([
      'patch',
      'deploy/web',
      '--type=json',
      '-p',
      '[{"op":"add","path":"/metadata/labels/json","value":"yes"}]',
    ]);
    await kubectl.out([
      'patch',
      'deploy/web',
      '--type=merge',
      '-p',
      '{"metadata":{"labels":{"merge":"yes"}}}',
    ]);
    await kubectl.out(['scale', 'deploy/web', '--replicas=4']);
    const shown = JSON.parse(await kubectl.out(['get', 'deploy', 'web', '-o', 'json'])) as {
      metadata: { labels: object; generation: number };
      spec: { replicas: number; template: { spec: { containers: object[] } } };
    };
    expect(shown.metadata.labels).toEqual({ app: 'web', tier: 'front', json: 'yes', merge: 'yes' });
    expect(shown.spec.replicas).toBe(4);
    expect(shown.spec.template.spec.containers).toMatchObject([
      { image: 'shop:2', ports: [{ containerPort: 80 }] },
    ]);
    expect(shown.metadata.generation).toBe(4);
    expect(await kubectl.out(['describe', 'deploy', 'web'])).toContain('4 desired');
    expect(await kubectl.out(['get', 'deploy', '-o', 'wide'])).toMatch(
      /NAME\s+READY\s+UP-TO-DATE\s+AVAILABLE\s+AGE\s+CONTAINERS\s+IMAGES\s+SELECTOR\nweb\s+0\/4\s+0\s+0\s+\d+s\s+web\s+shop:2\s+app=web/,
    );
    await kubectl.out(['delete', 'deploy', 'web', '--timeout=10s']);
    expect((await kubectl.run(['get', 'deploy', 'web'])).stderr).toContain(
      'Error from server (NotFound): deployments.apps "web" not found',
    );
  }, 60_000);

  test('applies on the server side and names who owns a field in conflict', async () => {
    await kubectl.out(['apply', '--server-side', '-f', '-'], web(2));
    const refused = await kubectl.run(
      ['apply', '--server-side', '--field-manager=other', '-f', '-'],
      web(5),
    );
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toContain('conflict with "kubectl": .spec.replicas');
    await kubectl.out(
      ['apply', '--server-side', '--field-manager=other', '--force-conflicts', '-f', '-'],
      web(5),
    );
    expect(await kubectl.out(['get', 'deploy', 'web', '-o', 'jsonpath={.spec.replicas}'])).toBe(
      '5',
    );
    await kubectl.out(['delete', 'deploy', 'web', '--timeout=10s']);
  }, 60_000);

  test('edits an object', async () => {
    await kubectl.out(['create', 'configmap', 'edited', '--from-literal=colour=red']);
    const edit = await kubectl.run(['edit', 'configmap', 'edited'], '', {
      EDITOR: 'sed -i s/red/blue/',
    });
    expect(edit.stdout).toContain('configmap/edited edited');
    expect(await kubectl.out(['get', 'cm', 'edited', '-o', 'jsonpath={.data.colour}'])).toBe(
      'blue',
    );
  }, 60_000);

  test('explains builtin and custom fields, and lists what is served', async () => {
    expect(await kubectl.out(['explain', 'deployment.spec.replicas'])).toContain(
      'Number of desired pods',
    );
    expect(await kubectl.out(['api-resources', '-o', 'name'])).toContain('deployments.apps\n');
    expect(await kubectl.out(['version', '-o', 'json'])).toContain('v1.34');
  }, 60_000);

  test('refuses an unknown field before anything is stored', async () => {
    const pod =
      '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"bad"},"spec":{"containerz":[]}}';
    const refused = await kubectl.run(['create', '-f', '-'], pod);
    expect(refused.stderr).toContain('strict decoding error: unknown field "spec.containerz"');
    expect(await kubectl.out(['get', 'pods'])).toBe('');
  }, 60_000);

  test('serves custom resources with their schema, columns and status', async () => {
    await kubectl.out(['apply', '-f', '-'], widgets);
    await kubectl.out([
      'wait',
      '--for=condition=Established',
      'crd/widgets.example.com',
      '--timeout=10s',
    ]);
    await kubectl.out(['apply', '-f', '-'], widget);
    expect(await kubectl.out(['get', 'wd'])).toMatch(/NAME\s+SIZE\na\s+3\n/);
    expect(await kubectl.out(['get', 'wd', 'a', '-o', 'jsonpath={.spec.mode} {.status}'])).toBe(
      'fast ',
    );
    const refused = await kubectl.run([
      'patch',
      'wd',
      'a',
      '--type=merge',
      '-p',
      '{"spec":{"size":0}}',
    ]);
    expect(refused.stderr).toContain('spec.size: Invalid value: 0');
    const patch = ['patch', 'wd', 'a', '--subresource=status', '--type=merge', '-p'];
    await kubectl.out([...patch, '{"status":{"ready":true},"spec":{"size":9}}']);
    expect(
      await kubectl.out(['get', 'wd', 'a', '-o', 'jsonpath={.spec.size} {.status.ready}']),
    ).toBe('3 true');
    expect(await kubectl.out(['explain', 'widget.spec'])).toContain('mode');
    await kubectl.out(['delete', 'crd', 'widgets.example.com', '--timeout=10s']);
    expect((await kubectl.run(['get', 'widgets'])).code).not.toBe(0);
  }, 60_000);

  test('watches and waits', async () => {
    const configMaps = { group: '', resource: 'configmaps' };
    running.api.store.create(configMaps, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'awaited', namespace: 'default' },
      data: { ready: 'no' },
    });
    const waiting = kubectl.run([
      'wait',
      '--for=jsonpath={.data.ready}=yes',
      'configmap/awaited',
      '--timeout=20s',
    ]);
    const watched = kubectl.run([
      'get',
      'configmap',
      'awaited',
      '-w',
      '-o',
      'name',
      '--request-timeout=3s',
    ]);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    running.api.store.patchMerge(configMaps, 'default', 'awaited', { data: { ready: 'yes' } });
    expect((await watched).stdout).toBe('configmap/awaited\nconfigmap/awaited\n');
    expect(await waiting).toMatchObject({ code: 0, stdout: 'configmap/awaited condition met\n' });
  }, 60_000);

  test('creates what it sends in protobuf, and signs tokens that RBAC holds to their rights', async () => {
    await kubectl.out(['create', 'namespace', 'team']);
    await kubectl.out(['create', 'serviceaccount', 'reader', '-n', 'team']);
    await kubectl.out([
      'create',
      'role',
      'read',
      '--verb=get,list',
      '--resource=pods',
      '-n',
      'team',
    ]);
    await kubectl.out([
      'create',
      'rolebinding',
      'read',
      '--role=read',
      '--serviceaccount=team:reader',
      '-n',
      'team',
    ]);
    const named = ['--verb=list,watch', '--resource=configmaps', '--resource-name=mine'];
    await kubectl.out(['create', 'role', 'named', ...named, '-n', 'team']);
    const reads = ['--role=named', '--serviceaccount=team:reader'];
    await kubectl.out(['create', 'rolebinding', 'named', ...reads, '-n', 'team']);
    const token = (await kubectl.out(['create', 'token', 'reader', '-n', 'team'])).trim();
    const reader = createKubectl(kubectlPath(minor), {
      server: running.server,
      ca: running.ca,
      token,
    });
    try {
      expect((await reader.run(['get', 'pods', '-n', 'team'])).code).toBe(0);
      expect((await reader.run(['auth', 'can-i', 'delete', 'pods', '-n', 'team'])).stdout).toBe(
        'no\n',
      );
      expect((await reader.run(['get', 'secrets', '-n', 'team'])).stderr).toContain(
        'secrets is forbidden: User "system:serviceaccount:team:reader" cannot list resource "secrets" in API group "" in the namespace "team"',
      );
      // Rights to one object are enough for who asks for it by its name.
      const list = (...words: string[]) =>
        reader.run(['get', 'configmaps', '-n', 'team', ...words]);
      expect((await list('--field-selector=metadata.name=mine')).code).toBe(0);
      const refused = /configmaps .*is forbidden: .* cannot list resource "configmaps"/;
      expect((await list('--field-selector=metadata.name=other')).stderr).toMatch(refused);
      expect((await list()).stderr).toMatch(refused);
    } finally {
      reader.close();
    }
    await kubectl.out(['delete', 'namespace', 'team', '--timeout=10s']);
    expect((await kubectl.run(['get', 'pods', '--token', token])).stderr).toContain('Unauthorized');
  }, 60_000);
});

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mutate, resources } from '../../src/cluster/store.ts';
import {
  deployment,
  fetchScript,
  inPod,
  namespace,
  node,
  pod,
  readyDeployment,
  readyPod,
  service,
  shell,
  startTestCluster,
  until,
  webServer,
  type TestCluster,
} from './cluster-fixture.ts';

const readiness = { httpGet: { path: '/', port: 8080 }, periodSeconds: 1 };
let t: TestCluster;
let before: string;

const traces = (): Promise<string> =>
  shell('ls /run/netns; ip -o link | grep -v " lo:"; nft list tables | grep -v ambit_services');

beforeAll(async () => {
  before = await traces();
  t = await startTestCluster();
});
afterAll(async () => {
  await t.close();
  // Nothing of two nodes and all their pods is left.
  expect(await traces()).toBe(before);
});

describe('a cluster on one machine', () => {
  test('nodes are ready, in their zones, with ranges of both families', async () => {
    const nodes = await until(async () => {
      const all = await t.store.list(resources.nodes);
      return (
        all.every((n) =>
          n.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True'),
        ) && all
      );
    });
    expect(nodes.map((n) => n.metadata.labels?.['topology.kubernetes.io/zone'])).toEqual([
      'zone-a',
      'zone-b',
    ]);
    expect(nodes[1]?.spec?.podCIDRs).toEqual(['10.244.2.0/24', 'fd00:10:244:2::/64']);
  });

  test('pods of a Deployment are spread, and reach each other by address, service and name on both families', async () => {
    await t.store.create(resources.services, service('web'));
    await t.store.create(
      resources.deployments,
      deployment('web', 4, { ...webServer, readinessProbe: readiness }),
    );
    const pods = await readyDeployment(t.store, 'web', 4);
    expect(new Set(pods.map((p) => p.spec.nodeName))).toEqual(new Set(['node-1', 'node-2']));
    await t.cluster.sync();
    const client = pods.find((p) => p.spec.nodeName === 'node-1')!;
    const far = pods.find((p) => p.spec.nodeName === 'node-2')!;
    const [ip4, ip6] = far.status!.podIPs!.map(({ ip }) => ip);
    const own = client.status!.podIPs!.map(({ ip }) => ip);
    expect(await inPod(t, client.metadata.name, ...fetchScript(`http://${ip4!}:8080/`))).toBe(
      `${far.metadata.name} ${own[0]!}`,
    );
    expect(await inPod(t, client.metadata.name, ...fetchScript(`http://[${ip6!}]:8080/`))).toBe(
      `${far.metadata.name} ${own[1]!}`,
    );
    const { clusterIPs } = (await t.store.get(resources.services, namespace, 'web'))!.spec;
    const urls = [
      `http://${clusterIPs![0]!}/`,
      `http://[${clusterIPs![1]!}]/`,
      'http://web/',
      'http://web.test.svc.cluster.local/',
    ];
    for (const url of urls) {
      const answers = new Set<string>();
      for (let i = 0; i < 12; i += 1)
        answers.add((await inPod(t, client.metadata.name, ...fetchScript(url))).split(' ')[0]!);
      expect(answers.size).toBeGreaterThan(1);
    }
  }, 60_000);

  test('a service without endpoints refuses at once', async () => {
    await t.store.create(resources.services, service('empty'));
    await t.cluster.sync();
    const [client] = await readyDeployment(t.store, 'web', 4);
    await expect(inPod(t, client!.metadata.name, ...fetchScript('http://empty/'))).rejects.toThrow(
      'ECONNREFUSED',
    );
  });

  test('a rolling update fails no request and leaves only new pods', async () => {
    const before = await readyDeployment(t.store, 'web', 4);
    const totals = { ok: 0, failed: [] as string[] };
    let stop = false;
    const load = (async () => {
      while (!stop as boolean) {
        const socket = await t.cluster
          .dialService(namespace, 'web', 80)
          .catch((error: unknown) => void totals.failed.push(String(error)));
        if (socket === undefined) continue;
        const text = await new Promise<string>((resolve) => {
          let got = '';
          socket.setEncoding('utf8').on('data', (chunk: string) => (got += chunk));
          socket.on('close', () => resolve(got));
          socket.write('GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n');
        });
        if (text.startsWith('HTTP/1.1 200')) totals.ok += 1;
        else totals.failed.push(text.slice(0, 50));
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    })();
    await mutate(t.store, resources.deployments, { namespace, name: 'web' }, (object) => {
      object.spec.template.metadata = {
        ...object.spec.template.metadata,
        annotations: { restarted: 'now' },
      };
      return true;
    });
    const after = await until(async () => {
      const pods = (await t.store.list(resources.pods, { namespace })).filter(
        (p) => p.metadata.labels?.['app'] === 'web',
      );
      return (
        pods.length === 4 &&
        pods.every((p) => !before.some((b) => b.metadata.uid === p.metadata.uid)) &&
        pods
      );
    }, 30_000);
    await readyDeployment(t.store, 'web', 4);
    stop = true;
    await load;
    expect(totals.failed).toEqual([]);
    expect(totals.ok).toBeGreaterThan(20);
    expect(after).toHaveLength(4);
  }, 60_000);

  test('a pod sees its token, configuration and secrets, and changes of them, at the declared paths', async () => {
    const meta = { name: 'settings', namespace };
    await t.store.create(resources.configMaps, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: meta,
      data: { colour: 'red' },
    });
    await t.store.create(resources.secrets, {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: meta,
      data: { key: Buffer.from('shh').toString('base64') },
    });
    const spec = {
      containers: [
        {
          ...node('setInterval(()=>{},1000)'),
          env: [
            { name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
            { name: 'COLOUR', valueFrom: { configMapKeyRef: { name: 'settings', key: 'colour' } } },
            { name: 'KEY', valueFrom: { secretKeyRef: { name: 'settings', key: 'key' } } },
            { name: 'BOTH', value: '$(COLOUR)-$(KEY)-$$(COLOUR)' },
          ],
          volumeMounts: [
            { name: 'config', mountPath: '/etc/new/place' },
            { name: 'scratch', mountPath: '/var/scratch' },
            { name: 'token', mountPath: '/var/run/secrets/tokens' },
            { name: 'host', mountPath: '/host' },
          ],
        },
      ],
      volumes: [
        { name: 'config', configMap: { name: 'settings' } },
        { name: 'scratch', emptyDir: {} },
        {
          name: 'token',
          projected: {
            sources: [
              {
                serviceAccountToken: {
                  path: 'istio-token',
                  audience: 'istio-ca',
                  expirationSeconds: 600,
                },
              },
            ],
          },
        },
        { name: 'host', hostPath: { path: '/var/lib/of-the-node', type: 'DirectoryOrCreate' } },
      ],
    };
    await t.store.create(resources.pods, pod('reader', spec));
    const {
      spec: { nodeName },
    } = await readyPod(t.store, 'reader');
    const read = (path: string): Promise<string> => inPod(t, 'reader', 'cat', path);
    expect(await inPod(t, 'reader', 'sh', '-c', 'echo $NODE $BOTH $KUBERNETES_SERVICE_HOST')).toBe(
      `${nodeName!} red-shh-$(COLOUR) 10.96.0.1\n`,
    );
    expect(await read('/etc/new/place/colour')).toBe('red');
    expect(await read('/var/run/secrets/kubernetes.io/serviceaccount/namespace')).toBe(namespace);
    expect(await read('/var/run/secrets/kubernetes.io/serviceaccount/ca.crt')).toContain(
      'BEGIN CERTIFICATE',
    );
    const claims = JSON.parse(
      Buffer.from(
        (await read('/var/run/secrets/tokens/istio-token')).split('.')[1]!,
        'base64url',
      ).toString(),
    ) as { aud: string[]; 'kubernetes.io': { pod: { name: string } } };
    expect(claims.aud).toEqual(['istio-ca']);
    expect(claims['kubernetes.io'].pod.name).toBe('reader');
    await inPod(t, 'reader', 'sh', '-c', 'echo mine > /var/scratch/a; echo kept > /host/b');
    const root = t.cluster.nodes.find((n) => n.name === nodeName)!.root;
    expect(await shell(`cat ${root}/var/lib/of-the-node/b`)).toBe('kept');
    await mutate(t.store, resources.configMaps, { namespace, name: 'settings' }, (object) => {
      object.data = { colour: 'blue', extra: 'yes' };
      return true;
    });
    await until(
      async () =>
        (await read('/etc/new/place/colour')) === 'blue' &&
        (await read('/etc/new/place/extra')) === 'yes',
    );
    // The machine itself is out of reach for writing.
    await expect(inPod(t, 'reader', 'sh', '-c', 'echo x > /usr/intruder')).rejects.toThrow(
      /Read-only|Permission/,
    );
  });

  test('a failing container is restarted with back-off, and a failing liveness probe restarts too', async () => {
    await t.store.create(
      resources.pods,
      pod('crasher', { containers: [node('setTimeout(()=>process.exit(3),100)')] }),
    );
    const crashed = await until(async () => {
      const found = await t.store.get(resources.pods, namespace, 'crasher');
      const status = found?.status?.containerStatuses?.[0];
      return (
        status !== undefined &&
        status.restartCount >= 2 &&
        status.state.waiting?.reason === 'CrashLoopBackOff' &&
        status
      );
    });
    expect(crashed.lastState.terminated?.exitCode).toBe(3);
    const sick = {
      ...node('setInterval(()=>{},1000)'),
      livenessProbe: { exec: { command: ['false'] }, periodSeconds: 1, failureThreshold: 2 },
    };
    await t.store.create(resources.pods, pod('sick', { containers: [sick] }));
    await until(
      async () =>
        ((await t.store.get(resources.pods, namespace, 'sick'))?.status?.containerStatuses?.[0]
          ?.restartCount ?? 0) >= 1,
    );
  }, 30_000);

  test('an unknown image says which images there are; an init container runs first; a Job completes', async () => {
    await t.store.create(
      resources.pods,
      pod('unknown', { containers: [{ name: 'main', image: 'nginx:1' }] }),
    );
    const waiting = await until(
      async () =>
        (await t.store.get(resources.pods, namespace, 'unknown'))?.status?.containerStatuses?.[0]
          ?.state.waiting?.reason === 'ErrImagePull' &&
        (await t.store.get(resources.pods, namespace, 'unknown'))?.status?.containerStatuses?.[0]
          ?.state.waiting,
    );
    expect(waiting.message).toContain('"nginx:1"');
    const volumeMounts = [{ name: 'shared', mountPath: '/shared' }];
    const template = {
      spec: {
        restartPolicy: 'Never' as const,
        initContainers: [
          {
            name: 'first',
            image: 'none',
            command: ['sh', '-c', 'echo ready > /shared/flag'],
            volumeMounts,
          },
        ],
        containers: [
          { name: 'main', image: 'none', command: ['grep', 'ready', '/shared/flag'], volumeMounts },
        ],
        volumes: [{ name: 'shared', emptyDir: {} }],
      },
    };
    await t.store.create(resources.jobs, {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { name: 'once', namespace },
      spec: { template },
    });
    await until(async () =>
      (await t.store.get(resources.jobs, namespace, 'once'))?.status?.conditions?.some(
        (c) => c.type === 'Complete',
      ),
    );
  }, 30_000);

  test('deleting a pod ends it in grace and leaves no namespace, link or process of it', async () => {
    const stubborn = node(
      `process.on('SIGTERM',()=>{});require('fs').writeFileSync('/tmp/up','');setInterval(()=>{},1000)//marker-of-the-stubborn`,
    );
    await t.store.create(
      resources.pods,
      pod('stubborn', { terminationGracePeriodSeconds: 1, containers: [stubborn] }),
    );
    const { spec, status } = await readyPod(t.store, 'stubborn');
    const { netns, root } = t.cluster.nodes.find((n) => n.name === spec.nodeName)!;
    expect(await shell(`nsenter --net=${netns} ip route get ${status!.podIP!}`)).toContain('veth');
    await until(() =>
      inPod(t, 'stubborn', 'sh', '-c', 'test -e /tmp/up').then(
        () => true,
        () => false,
      ),
    );
    const started = Date.now();
    await t.store.delete(resources.pods, namespace, 'stubborn');
    await until(
      async () => (await t.store.get(resources.pods, namespace, 'stubborn')) === undefined,
    );
    const tookMs = Date.now() - started;
    expect(tookMs).toBeGreaterThanOrEqual(900);
    expect(tookMs).toBeLessThan(4_000);
    expect(await shell(`nsenter --net=${netns} ip route get ${status!.podIP!} 2>&1`)).not.toContain(
      'veth',
    );
    expect(
      await shell(`ls ${root}/var/lib/cni/sandbox-ptp | grep -Fx ${status!.podIP!.split('.')[3]!}`),
    ).toBe('');
    expect(await shell("grep -l '[m]arker-of-the-stubborn' /proc/[0-9]*/cmdline 2>/dev/null")).toBe(
      '',
    );
  }, 20_000);
});

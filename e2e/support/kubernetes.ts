import { readFileSync } from 'node:fs';
import * as https from 'node:https';
import { createRequire } from 'node:module';
import type { KubeClient } from '@ambit/controller';
import { createKubeClient } from '@ambit/controller';
import { createKubeTour } from '@ambit/sandbox';
import { KubeConfig } from '@kubernetes/client-node';
import type { Hands, MeshCluster } from './mesh-cluster.ts';
import { meshOn, until } from './mesh-cluster.ts';
import { objectsOf } from './objects.ts';

interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
}

const readyMs = 180_000;
const goneMs = 180_000;
const samples = ['samples/shop/shop.yaml', 'samples/shop/clients.yaml'];
const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };
const samplesImage = process.env['AMBIT_SAMPLES_IMAGE'] ?? `ambit/samples:${version}`;

/**
 * A Kubernetes in which the mesh is installed already. The samples are made anew for each suite; what a suite made is
 * taken away again, and what it changed outside of its own namespaces is put back.
 */
export async function joinKubernetes(kubeconfig: string): Promise<MeshCluster> {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const client = createKubeClient(config);
  const tour = createKubeTour({
    kubeconfig: readFileSync(kubeconfig, 'utf8'),
    captureNodeLink: () => {
      throw new Error('the links of this cluster are not ours to look at');
    },
  });
  const workers = await workersOf(client);
  const plain: Hands = {
    ...tour,
    apply: (object) => tour.apply(adapt(object, workers) as object),
    read: (ip, port, path) => readByProxy(client, config, { ip, port, path }),
  };
  const careful = carefulHands(plain);
  const { hands } = careful;
  const objects = samples.flatMap(objectsOf) as KubeObject[];
  const namespaces = objects.filter(({ kind }) => kind === 'Namespace');
  for (const one of namespaces) await refuseOthers(plain, one);
  await removeAll(plain, namespaces);
  for (const object of objects)
    await hands.apply(namespaces.includes(object) ? ours(object) : object);
  for (const { metadata } of namespaces) await allReady(hands, metadata.name);
  return meshOn({
    kind: 'kubernetes',
    hands,
    kubeconfig,
    client,
    async close() {
      await careful.restore();
      client.close();
    },
  });
}

const madeBy = { label: 'app.kubernetes.io/managed-by', value: 'ambit-suites' };

function ours(namespace: KubeObject): KubeObject {
  const { labels } = namespace.metadata;
  const own = { ...labels, [madeBy.label]: madeBy.value };
  return { ...namespace, metadata: { ...namespace.metadata, labels: own } };
}

/** What an earlier run left goes; a namespace of that name that somebody else made does not. */
async function refuseOthers(plain: Hands, namespace: KubeObject): Promise<void> {
  if (!(await plain.exists(namespace))) return;
  const { labels } = ((await plain.get(namespace)) as KubeObject).metadata;
  const { name } = namespace.metadata;
  if (labels?.[madeBy.label] !== madeBy.value)
    throw new Error(
      `namespace ${name} of this cluster is somebody else's, and the suites need one of that name for themselves: ` +
        `let them run in another cluster, or delete it (kubectl delete namespace ${name})`,
    );
}

interface Touched {
  readonly object: KubeObject;
  /** As it was; undefined when it was not there. */
  readonly before: KubeObject | undefined;
}

/** Hands that remember how they found what they changed. */
function carefulHands(plain: Hands): { readonly hands: Hands; restore(): Promise<void> } {
  const touched = new Map<string, Touched>();
  const keyOf = ({ kind, metadata }: KubeObject): string =>
    `${kind} ${metadata.namespace ?? ''}/${metadata.name}`;
  const inMadeNamespace = ({ metadata }: KubeObject): boolean =>
    touched.get(`Namespace /${metadata.namespace ?? ''}`)?.before === undefined &&
    touched.has(`Namespace /${metadata.namespace ?? ''}`);
  const putBack = async ({ object, before }: Touched): Promise<void> => {
    if (before !== undefined) await plain.apply(before);
    else if (await plain.exists(object)) await plain.remove(object);
  };
  const hands: Hands = {
    ...plain,
    async apply(given) {
      const object = given as KubeObject;
      // What is in a namespace of ours goes with it.
      if (!inMadeNamespace(object) && !touched.has(keyOf(object))) {
        const there = await plain.exists(object);
        touched.set(keyOf(object), {
          object,
          before: there ? withoutServerFields(await plain.get(object)) : undefined,
        });
      }
      await plain.apply(object);
    },
    async remove(given) {
      const known = touched.get(keyOf(given as KubeObject));
      await (known === undefined ? plain.remove(given) : putBack(known));
    },
  };
  return {
    hands,
    async restore() {
      const all = [...touched.values()].reverse();
      const made = all.filter(
        ({ object, before }) => object.kind === 'Namespace' && before === undefined,
      );
      for (const one of all) if (!made.includes(one)) await putBack(one);
      await removeAll(
        plain,
        made.map(({ object }) => object),
      );
    },
  };
}

function withoutServerFields(got: unknown): KubeObject {
  const object = got as KubeObject & { metadata: { labels?: object; annotations?: object } };
  const { name, namespace, labels, annotations } = object.metadata;
  const metadata = Object.entries({ name, namespace, labels, annotations });
  const fields = Object.entries(object).filter(([key]) => key !== 'status' && key !== 'metadata');
  return {
    ...Object.fromEntries(fields),
    metadata: Object.fromEntries(metadata.filter(([, value]) => value !== undefined)),
  } as unknown as KubeObject;
}

async function removeAll(hands: Hands, objects: readonly KubeObject[]): Promise<void> {
  for (const object of objects) if (await hands.exists(object)) await hands.remove(object);
  for (const object of objects)
    await until(async () => ((await hands.exists(object)) ? undefined : true), goneMs);
}

async function allReady(hands: Hands, namespace: string): Promise<void> {
  await until(async () => {
    const pods = await hands.pods(namespace);
    return (pods.length > 0 && pods.every(({ ready }) => ready)) || undefined;
  }, readyMs);
}

/** The names of the nodes that take any pod. */
async function workersOf(client: KubeClient): Promise<string[]> {
  const { items } = (await client.request({ path: '/api/v1/nodes' })) as {
    readonly items: readonly {
      readonly metadata: { readonly name: string };
      readonly spec: { readonly taints?: readonly { readonly effect: string }[] };
    }[];
  };
  const free = items.filter(({ spec }) =>
    (spec.taints ?? []).every(({ effect }) => effect === 'PreferNoSchedule'),
  );
  if (free.length < 2) throw new Error('the suites need two nodes that take any pod');
  return free.map(({ metadata }) => metadata.name).sort();
}

/** The manifests are the sandbox's: its image of the samples, its two nodes. */
function adapt(value: unknown, workers: readonly string[]): unknown {
  if (Array.isArray(value)) return value.map((one) => adapt(one, workers));
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value).map(([key, one]): [string, unknown] => [
    key,
    key === 'kubernetes.io/hostname'
      ? (workers[one === 'node-2' ? 1 : 0] ?? one)
      : adapt(one, workers),
  ]);
  const adapted: Record<string, unknown> = Object.fromEntries(fields);
  if (adapted['image'] !== 'ambit/samples') return adapted;
  return { ...adapted, image: samplesImage, imagePullPolicy: 'IfNotPresent' };
}

/** The API server asks the pod, so that it need not be reachable from here. */
async function readByProxy(
  client: KubeClient,
  config: KubeConfig,
  { ip, port, path }: { readonly ip: string; readonly port: number; readonly path: string },
): Promise<string> {
  const { items } = (await client.request({
    path: '/api/v1/pods',
    query: new Map([['fieldSelector', `status.podIP=${ip}`]]),
  })) as { readonly items: readonly KubeObject[] };
  const pod = items[0]?.metadata;
  if (pod === undefined) throw new Error(`no pod has the address ${ip}`);
  const target = `/api/v1/namespaces/${pod.namespace ?? ''}/pods/${pod.name}:${port}/proxy${path}`;
  const options: https.RequestOptions = {};
  await config.applyToHTTPSOptions(options);
  return new Promise((resolve, reject) => {
    const call = https.get(
      `${config.getCurrentCluster()?.server ?? ''}${target}`,
      { ...options, timeout: 5_000 },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('end', () => resolve(Buffer.concat(chunks).toString()));
        answer.on('error', reject);
      },
    );
    call.on('timeout', () => call.destroy(new Error(`${target} does not answer`)));
    call.on('error', reject);
  });
}

import { dataplaneModeLabel, redirectionAnnotation } from '@ambit/api';
import type { Kube } from '../kube.ts';
import type {
  ClusterFacts,
  EnrolledFacts,
  GatewayClassFacts,
  NodeFacts,
  PermissionFacts,
  PodFacts,
  ProgramFacts,
} from './facts.ts';

const agent = 'cni-redirect';
const programs = [
  { kind: 'Deployment', name: 'ambit-controller' },
  { kind: 'DaemonSet', name: 'ztunnel' },
  { kind: 'DaemonSet', name: 'cni-redirect' },
] as const;

/** Where a program says, as text, why the pod of this name is not ready. */
const readiness = new Map([
  ['cni-redirect', (pod: string) => `8000/proxy/readyz?pod=${pod}`],
  ['ztunnel', () => '15021/proxy/healthz/ready'],
  ['ambit-controller', () => '15014/proxy/healthz/ready'],
]);

/** What the accounts cannot do without. */
const needed = [
  { account: 'cni-redirect', verb: 'list', group: '', resource: 'pods' },
  { account: 'cni-redirect', verb: 'watch', group: '', resource: 'namespaces' },
  { account: 'cni-redirect', verb: 'patch', group: '', resource: 'pods' },
  { account: 'ambit-controller', verb: 'list', group: '', resource: 'pods' },
  { account: 'ambit-controller', verb: 'watch', group: '', resource: 'services' },
  {
    account: 'ambit-controller',
    verb: 'watch',
    group: 'discovery.k8s.io',
    resource: 'endpointslices',
  },
  { account: 'ambit-controller', verb: 'watch', group: 'apps', resource: 'deployments' },
  {
    account: 'ambit-controller',
    verb: 'create',
    group: 'authentication.k8s.io',
    resource: 'tokenreviews',
  },
] as const;

/** Reads what the checks look at. */
export async function gather(
  kube: Kube,
  namespace: string,
  ownVersion: string,
): Promise<ClusterFacts> {
  const apps = `/apis/apps/v1/namespaces/${namespace}`;
  const pods = await kube.list(`/api/v1/namespaces/${namespace}/pods`);
  const webhook = await kube.get(
    '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ambit-validator',
  );
  return {
    namespace,
    ownVersion,
    kubernetesVersion: text(await kube.get('/version'), 'gitVersion'),
    nodes: (await kube.list('/api/v1/nodes')).map(readNode),
    programs: await Promise.all(
      programs.map(async ({ kind, name }) =>
        readProgram(kube, kind, name, {
          workload: await kube.get(`${apps}/${kind.toLowerCase()}s/${name}`),
          pods: pods.filter((pod) => pod.metadata.labels?.['app'] === name),
          namespace,
        }),
      ),
    ),
    definitions: new Set(
      (await kube.list('/apis/apiextensions.k8s.io/v1/customresourcedefinitions')).map(
        ({ metadata }) => metadata.name,
      ),
    ),
    gatewayClasses: (
      await kube.listIfKnown('/apis/gateway.networking.k8s.io/v1/gatewayclasses')
    ).map(readGatewayClass),
    webhook:
      webhook === undefined
        ? undefined
        : {
            hasCaBundle: list(webhook, 'webhooks').every(
              (one) => text(one, 'clientConfig', 'caBundle') !== '',
            ),
          },
    otherMeshes: await otherMeshes(kube, namespace),
    enrolled: await enrolledPods(
      kube,
      excludedBy(await kube.get(`${apps}/daemonsets/${agent}`), namespace),
    ),
    permissions: await Promise.all(needed.map((right) => readPermission(kube, namespace, right))),
  };
}

function readNode(node: unknown): NodeFacts {
  return {
    name: text(node, 'metadata', 'name'),
    linux: text(node, 'status', 'nodeInfo', 'operatingSystem') !== 'windows',
    taints: list(node, 'spec', 'taints').map((taint) => text(taint, 'key')),
  };
}

interface ProgramParts {
  readonly workload: unknown;
  readonly pods: readonly unknown[];
  readonly namespace: string;
}

async function readProgram(
  kube: Kube,
  kind: ProgramFacts['kind'],
  name: string,
  { workload, pods, namespace }: ProgramParts,
): Promise<ProgramFacts> {
  const wanted =
    kind === 'Deployment'
      ? field(workload, 'spec', 'replicas')
      : field(workload, 'status', 'desiredNumberScheduled');
  return {
    kind,
    name,
    installed: workload !== undefined,
    wanted: typeof wanted === 'number' ? wanted : 0,
    pods: await Promise.all(pods.map((pod) => readPod(kube, pod, namespace, name))),
  };
}

async function readPod(
  kube: Kube,
  pod: unknown,
  namespace: string,
  program: string,
): Promise<PodFacts> {
  const name = text(pod, 'metadata', 'name');
  const ready = list(pod, 'status', 'conditions').some(
    (one) => text(one, 'type') === 'Ready' && text(one, 'status') === 'True',
  );
  const [container] = list(pod, 'spec', 'containers');
  const path = `/api/v1/namespaces/${namespace}/pods/${name}:${readiness.get(program)?.(name) ?? ''}`;
  return {
    name,
    node: text(pod, 'spec', 'nodeName'),
    ready,
    version: /(?::|@)([^:/@]+)$/.exec(text(container, 'image'))?.[1] ?? 'latest',
    reason: ready ? '' : await reasonOf(kube, pod, path),
  };
}

/** What the program says itself, else what it said as it ended, else what the kubelet says. */
async function reasonOf(kube: Kube, pod: unknown, path: string): Promise<string> {
  const [status] = list(pod, 'status', 'containerStatuses');
  const ended =
    lastLine(text(status, 'state', 'terminated', 'message')) ||
    lastLine(text(status, 'lastState', 'terminated', 'message'));
  const waiting =
    text(status, 'state', 'waiting', 'message') || text(status, 'state', 'waiting', 'reason');
  if (field(status, 'state', 'running') === undefined)
    return ended || waiting || text(pod, 'status', 'phase') || 'it does not run';
  const answer = await kube.read(path).catch(() => undefined);
  return answer?.text.trim().split('\n')[0] || ended || 'it is not ready';
}

/** Of a log line the sentence: what comes before its fields. */
function lastLine(message: string): string {
  const line = message.trim().split('\n').at(-1) ?? '';
  return (line.split('\t').at(-1) ?? '').split(' err={')[0] ?? '';
}

function readGatewayClass(found: unknown): GatewayClassFacts {
  return {
    name: text(found, 'metadata', 'name'),
    controllerName: text(found, 'spec', 'controllerName'),
    accepted: list(found, 'status', 'conditions').some(
      (one) => text(one, 'type') === 'Accepted' && text(one, 'status') === 'True',
    ),
  };
}

const ownSets: readonly string[] = ['ztunnel', 'cni-redirect'];

/** Who redirects pods, and who writes the status of the same resources. */
async function otherMeshes(kube: Kube, namespace: string): Promise<string[]> {
  const istiods = await kube.list('/apis/apps/v1/deployments?labelSelector=app%3Distiod');
  const sets = await kube.list('/apis/apps/v1/daemonsets');
  const redirecting = sets
    .filter(({ metadata }) => {
      const { name, labels = {} } = metadata;
      const isOwn = metadata.namespace === namespace && ownSets.includes(name);
      // Istio's charts give them any name, and these labels.
      const called = [name, labels['app'] ?? '', labels['k8s-app'] ?? ''];
      return !isOwn && called.some((one) => [...ownSets, 'istio-cni-node'].includes(one));
    })
    .map(({ metadata }) => `DaemonSet ${metadata.namespace ?? ''}/${metadata.name}`);
  const ruling = istiods.map(
    ({ metadata }) => `Deployment ${metadata.namespace ?? ''}/${metadata.name}`,
  );
  return [...redirecting, ...ruling];
}

/** The namespaces whose pods the agent leaves alone whatever their labels are. */
export function excludedBy(daemonSet: unknown, own: string): ReadonlySet<string> {
  const written = list(daemonSet, 'spec', 'template', 'spec', 'containers')
    .flatMap((container) => list(container, 'env'))
    .find((one) => text(one, 'name') === 'EXCLUDE_NAMESPACES');
  return new Set([own, 'kube-system', ...text(written, 'value').split(',')]);
}

async function enrolledPods(kube: Kube, excluded: ReadonlySet<string>): Promise<EnrolledFacts[]> {
  const ambient = new Set(
    (await kube.list('/api/v1/namespaces'))
      .filter(({ metadata }) => metadata.labels?.[dataplaneModeLabel] === 'ambient')
      .map(({ metadata }) => metadata.name),
  );
  const pods = await kube.list('/api/v1/pods');
  return pods
    .filter(({ metadata }) => {
      const mode = metadata.labels?.[dataplaneModeLabel];
      const inMesh =
        mode === undefined ? ambient.has(metadata.namespace ?? '') : mode === 'ambient';
      return inMesh && !excluded.has(metadata.namespace ?? '');
    })
    .filter((pod) => text(pod, 'status', 'phase') === 'Running')
    .filter((pod) => field(pod, 'spec', 'hostNetwork') !== true)
    .filter(({ metadata }) => metadata.annotations?.['sidecar.istio.io/status'] === undefined)
    .map((pod) => ({
      name: `${pod.metadata.namespace ?? ''}/${pod.metadata.name}`,
      node: text(pod, 'spec', 'nodeName'),
      captured: pod.metadata.annotations?.[redirectionAnnotation] === 'enabled',
    }));
}

async function readPermission(
  kube: Kube,
  namespace: string,
  { account, verb, group, resource }: (typeof needed)[number],
): Promise<PermissionFacts> {
  const user = `system:serviceaccount:${namespace}:${account}`;
  const review = {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SubjectAccessReview',
    spec: { user, resourceAttributes: { verb, group, resource } },
  };
  const allowed = await kube
    .create('/apis/authorization.k8s.io/v1/subjectaccessreviews', review)
    .then((answer) => field(answer, 'status', 'allowed') === true)
    .catch(() => undefined);
  return { account, may: `${verb} ${resource}`, allowed };
}

function field(value: unknown, ...path: readonly string[]): unknown {
  let current = value;
  for (const name of path) {
    if (typeof current !== 'object' || current === null) return undefined;
    current = new Map<string, unknown>(Object.entries(current)).get(name);
  }
  return current;
}

function text(value: unknown, ...path: readonly string[]): string {
  const found = field(value, ...path);
  return typeof found === 'string' ? found : '';
}

function list(value: unknown, ...path: readonly string[]): readonly unknown[] {
  const found = field(value, ...path);
  return Array.isArray(found) ? found : [];
}

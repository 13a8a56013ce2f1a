import { leftAnnotation, redirectionAnnotation } from '@ambit/api';
import type { CoreV1Api } from '@kubernetes/client-node';
import { CoreV1Event, PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import type { PodFacts } from '../enrol.ts';
import type { PodEvent } from '../observe.ts';
import { decodePod } from './decode.ts';

/** Taint that keeps pods from a node until its agent is ready; its name is Istio's. */
export const notReadyTaint = 'cni.istio.io/not-ready';

const component = 'ambit-cni-redirect';

export async function fetchPod(
  core: CoreV1Api,
  node: string,
  namespace: string,
  name: string,
): Promise<PodFacts | undefined> {
  try {
    const pod = await core.readNamespacedPod({ namespace, name });
    return pod.spec?.nodeName === node ? decodePod(pod) : undefined;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Writes or removes `ambient.istio.io/redirection` on the pod. */
export async function annotate(core: CoreV1Api, pod: PodFacts, enabled: boolean): Promise<void> {
  const body = {
    metadata: {
      uid: pod.uid,
      annotations: { [redirectionAnnotation]: enabled ? 'enabled' : null },
    },
  };
  try {
    await core.patchNamespacedPod(
      { namespace: pod.namespace, name: pod.name, body },
      setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
    );
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/** Says on the agent's own pod whether it has let go of everything on its node. */
export async function annotateSelf(
  core: CoreV1Api,
  { namespace, name }: { readonly namespace: string; readonly name: string | undefined },
  left: boolean,
): Promise<void> {
  if (name === undefined) return;
  const body = { metadata: { annotations: { [leftAnnotation]: left ? 'true' : null } } };
  try {
    await core.patchNamespacedPod(
      { namespace, name, body },
      setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
    );
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/** Fails where the agent may not write on its own pod, and so on no other one. Changes nothing. */
export async function tryWrite(
  core: CoreV1Api,
  { namespace, name }: { readonly namespace: string; readonly name: string | undefined },
): Promise<void> {
  if (name === undefined) return;
  try {
    await core.patchNamespacedPod(
      { namespace, name, body: { metadata: { annotations: {} } }, dryRun: 'All' },
      setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
    );
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/** Puts an event of the type Warning on the pod. */
export async function recordEvent(
  core: CoreV1Api,
  node: string,
  pod: PodFacts,
  { reason, message }: { readonly reason: PodEvent; readonly message: string },
): Promise<void> {
  const now = new Date();
  const { namespace, name, uid } = pod;
  const body = Object.assign(new CoreV1Event(), {
    metadata: { namespace, name: `${name.slice(0, 200)}.${eventSuffix(now)}` },
    involvedObject: { apiVersion: 'v1', kind: 'Pod', namespace, name, uid },
    type: 'Warning',
    reason,
    message: message.slice(0, 1_000),
    source: { component, host: node },
    reportingComponent: component,
    reportingInstance: node,
    firstTimestamp: now,
    lastTimestamp: now,
    count: 1,
  });
  await core.createNamespacedEvent({ namespace, body });
}

/** Puts the taint on a node, or takes it away whatever its value and effects; others stay. Fails if the node changes meanwhile. */
export async function setTaint(core: CoreV1Api, name: string, tainted: boolean): Promise<void> {
  const { metadata, spec } = await core.readNode({ name });
  const taints = spec?.taints ?? [];
  const rest = taints.filter(({ key }) => key !== notReadyTaint);
  if (tainted === rest.length < taints.length) return;
  const own = { key: notReadyTaint, effect: 'NoSchedule' };
  const body = {
    metadata: { resourceVersion: metadata?.resourceVersion },
    spec: { taints: tainted ? [...rest, own] : rest },
  };
  await core.patchNode({ name, body }, setHeaderOptions('Content-Type', PatchStrategy.MergePatch));
}

function isMissing(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === 404;
}

let events = 0;

function eventSuffix(now: Date): string {
  events += 1;
  return `${now.getTime().toString(16)}${events.toString(16)}`;
}

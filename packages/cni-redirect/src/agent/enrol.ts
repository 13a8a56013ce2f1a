import type { IpAddress, IpFamily, Port } from '@ambit/api';
import { dataplaneModeLabel, familyOf, redirectionAnnotation } from '@ambit/api';
import type { PodCapture } from '../rules/index.ts';

/** What the agent reads of a pod. */
export interface PodFacts {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
  readonly hostNetwork: boolean;
  readonly phase: string;
  readonly deleting: boolean;
  readonly addresses: readonly IpAddress[];
  /** Ports that the kubelet probes by TCP, HTTP or gRPC. */
  readonly probePorts: readonly Port[];
  /** When its newest container began; a network namespace that is younger is another pod's. */
  readonly startedAtMs: number | undefined;
}

export type NotEnrolledReason =
  'excluded-namespace' | 'host-network' | 'has-sidecar' | 'finished' | 'opted-out' | 'not-labelled';

export type Enrolment =
  { readonly enrolled: true } | { readonly enrolled: false; readonly why: NotEnrolledReason };

/** Decides by the labels of pod and namespace; the pod's own label wins over its namespace's. */
export function decideEnrolment(
  pod: PodFacts,
  namespaceLabels: ReadonlyMap<string, string>,
  excludedNamespaces: readonly string[],
): Enrolment {
  if (excludedNamespaces.includes(pod.namespace)) return no('excluded-namespace');
  if (pod.hostNetwork) return no('host-network');
  if (pod.annotations.has('sidecar.istio.io/status')) return no('has-sidecar');
  if (pod.phase === 'Succeeded' || pod.phase === 'Failed') return no('finished');
  const own = pod.labels.get(dataplaneModeLabel);
  if (own === 'none') return no('opted-out');
  const mode = own ?? namespaceLabels.get(dataplaneModeLabel);
  return mode === 'ambient' ? { enrolled: true } : no('not-labelled');
}

function no(why: NotEnrolledReason): Enrolment {
  return { enrolled: false, why };
}

/** True for a pod that has a network and will keep it for a while. */
export function isRunning({ deleting, addresses }: PodFacts): boolean {
  return !deleting && addresses.length > 0;
}

/** True for a pod that says of itself that its traffic is redirected. */
export function isMarked({ annotations }: PodFacts): boolean {
  return annotations.get(redirectionAnnotation) === 'enabled';
}

export function captureOf(pod: PodFacts, addresses: readonly IpAddress[]): PodCapture {
  const families = [...new Set<IpFamily>(addresses.map(familyOf))];
  return {
    families: families.length === 0 ? ['IPv4'] : families,
    probePorts: pod.probePorts,
    captureInbound: pod.annotations.get('ambient.istio.io/bypass-inbound-capture') !== 'true',
    captureDns: false,
    otherProtocols: 'pass',
  };
}

import type { Program, Result, SpiffeIdentity, TrustDomain } from '@ambit/api';
import { err, gatewayNameLabel, ok } from '@ambit/api';

import type { PodRecord } from '../kube/decode/pod.ts';
import { hasEnded } from '../translate/workload.ts';

/** A caller as its token names it. */
export interface Caller {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly podName: string;
  readonly podUid: string;
}

/** What the authorizer may know of pods, and nothing else. */
export interface PodView {
  podByName(namespace: string, name: string): PodRecord | undefined;
  /** True when a pod of that account that has not ended is on that node. */
  runsOnNode(node: string, namespace: string, serviceAccount: string): boolean;
}

export interface NodeAuthorization {
  readonly trustDomain: TrustDomain;
  /** `<namespace>/<service account>` of the node proxies. */
  readonly trustedAccounts: ReadonlySet<string>;
  /** The service account of a Gateway that the controller has deployed; undefined for any other. */
  readonly gatewayAccount: (namespace: string, gateway: string) => string | undefined;
}

/** Why a caller gets nothing; for the log, never for the caller. */
export type Refusal =
  | 'account-not-trusted'
  | 'token-without-pod'
  | 'caller-pod-unknown'
  | 'caller-pod-replaced'
  | 'caller-account-differs'
  | 'caller-pod-ended'
  | 'caller-pod-without-node'
  | 'foreign-trust-domain'
  | 'identity-not-on-node'
  | 'identity-not-its-own';

/** A proxy that is who it says it is, and its node. Later steps take only this. */
export interface NodeProxy {
  readonly caller: Caller;
  readonly node: string;
  readonly program: Program;
}

/** Finds out what proxy a caller is whose token has been verified: a node's, or one of a Gateway. */
export function authorizeNodeProxy(
  caller: Caller,
  pods: PodView,
  { trustedAccounts, gatewayAccount }: NodeAuthorization,
): Result<NodeProxy, Refusal> {
  const trusted = trustedAccounts.has(`${caller.namespace}/${caller.serviceAccount}`);
  if (!trusted && !isGatewayPod(caller, pods, gatewayAccount)) return err('account-not-trusted');
  if (caller.podName === '' || caller.podUid === '') return err('token-without-pod');
  const pod = pods.podByName(caller.namespace, caller.podName);
  if (pod === undefined) return err('caller-pod-unknown');
  if (pod.meta.uid !== caller.podUid) return err('caller-pod-replaced');
  if (pod.serviceAccount !== caller.serviceAccount) return err('caller-account-differs');
  if (hasEnded(pod)) return err('caller-pod-ended');
  if (pod.node === '') return err('caller-pod-without-node');
  return ok({ caller, node: pod.node, program: trusted ? 'ztunnel' : 'waypoint' });
}

/** A pod that bears a Gateway's name and runs under the very account that this Gateway was given. */
function isGatewayPod(
  caller: Caller,
  pods: PodView,
  gatewayAccount: NodeAuthorization['gatewayAccount'],
): boolean {
  const gateway = pods
    .podByName(caller.namespace, caller.podName)
    ?.meta.labels.get(gatewayNameLabel);
  return (
    gateway !== undefined && gatewayAccount(caller.namespace, gateway) === caller.serviceAccount
  );
}

/** A node proxy gets only identities that some pod of its node has; a Gateway's only its own. */
export function authorizeIdentity(
  proxy: NodeProxy,
  requested: SpiffeIdentity,
  pods: PodView,
  { trustDomain }: NodeAuthorization,
): Result<SpiffeIdentity, Refusal> {
  if (requested.trustDomain !== trustDomain) return err('foreign-trust-domain');
  if (proxy.program === 'waypoint') {
    const { namespace, serviceAccount } = proxy.caller;
    const own = requested.namespace === namespace && requested.serviceAccount === serviceAccount;
    return own ? ok(requested) : err('identity-not-its-own');
  }
  if (!pods.runsOnNode(proxy.node, requested.namespace, requested.serviceAccount)) {
    return err('identity-not-on-node');
  }
  return ok(requested);
}

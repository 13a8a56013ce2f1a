import type { Result, SpiffeIdentity, TrustDomain } from '@ambit/api';
import { err, ok } from '@ambit/api';

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
  | 'identity-not-on-node';

/** A node proxy that is who it says it is, and its node. Later steps take only this. */
export interface NodeProxy {
  readonly caller: Caller;
  readonly node: string;
}

/** Finds the node of a caller whose token has been verified. */
export function authorizeNodeProxy(
  caller: Caller,
  pods: PodView,
  { trustedAccounts }: NodeAuthorization,
): Result<NodeProxy, Refusal> {
  if (!trustedAccounts.has(`${caller.namespace}/${caller.serviceAccount}`)) {
    return err('account-not-trusted');
  }
  if (caller.podName === '' || caller.podUid === '') return err('token-without-pod');
  const pod = pods.podByName(caller.namespace, caller.podName);
  if (pod === undefined) return err('caller-pod-unknown');
  if (pod.meta.uid !== caller.podUid) return err('caller-pod-replaced');
  if (pod.serviceAccount !== caller.serviceAccount) return err('caller-account-differs');
  if (hasEnded(pod)) return err('caller-pod-ended');
  if (pod.node === '') return err('caller-pod-without-node');
  return ok({ caller, node: pod.node });
}

/** A node proxy gets only identities that some pod of its node has. */
export function authorizeIdentity(
  proxy: NodeProxy,
  requested: SpiffeIdentity,
  pods: PodView,
  { trustDomain }: NodeAuthorization,
): Result<SpiffeIdentity, Refusal> {
  if (requested.trustDomain !== trustDomain) return err('foreign-trust-domain');
  if (!pods.runsOnNode(proxy.node, requested.namespace, requested.serviceAccount)) {
    return err('identity-not-on-node');
  }
  return ok(requested);
}

import type { IpAddress } from './address.ts';

/** Unix socket on which the node agent listens and to which ztunnel connects; frames are JSON lines. */
export const agentSocketName = 'ztunnel.sock';
/** Beside that socket: the key of what ztunnel keeps on disk. Without it what is there opens no more. */
export const stateKeyName = 'state.key';
export const enrolmentSchema = 1;
export const maxEnrolmentFrameBytes = 64 * 1024;

/** A pod whose traffic ztunnel is to take. */
export interface EnrolledPod {
  /** Kubernetes UID of the pod. */
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly addresses: readonly IpAddress[];
  /** Path of the pod's network namespace as ztunnel sees it, and the inode it must have: a path can be reused. */
  readonly netns: { readonly path: string; readonly inode: string };
}

export interface EnrolmentHello {
  readonly kind: 'hello';
  readonly schema: number;
  readonly instance: string;
}

/** Answered once the pod's listeners accept connections; only then may rules redirect to them. */
export interface PodAdded {
  readonly kind: 'pod-added';
  readonly id: number;
  readonly pod: EnrolledPod;
}

/** `released`: the pod left the mesh but lives on, so open connections are let finish. */
export interface PodRemoved {
  readonly kind: 'pod-removed';
  readonly id: number;
  readonly uid: string;
  readonly why: 'released' | 'deleted';
}

/** All pods of this node have been sent; whatever ztunnel still holds beside them is gone. */
export interface PodsComplete {
  readonly kind: 'pods-complete';
  readonly id: number;
}

export interface EnrolmentAck {
  readonly kind: 'ack';
  readonly id: number;
  /** Why the message could not be carried out; absent when it was. */
  readonly error?: string;
}

export type AgentFrame = PodAdded | PodRemoved | PodsComplete;
export type ZtunnelFrame = EnrolmentHello | EnrolmentAck;

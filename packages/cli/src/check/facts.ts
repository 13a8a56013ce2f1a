/** What `ambitctl check` looks at; read from the cluster by gather.ts, judged by judge.ts. */
export interface ClusterFacts {
  readonly namespace: string;
  /** Version of ambitctl. */
  readonly ownVersion: string;
  /** As the API server tells it, for example `v1.34.4`. */
  readonly kubernetesVersion: string;
  readonly nodes: readonly NodeFacts[];
  readonly programs: readonly ProgramFacts[];
  /** Names of the CustomResourceDefinitions. */
  readonly definitions: ReadonlySet<string>;
  readonly gatewayClasses: readonly GatewayClassFacts[];
  readonly webhook: WebhookFacts | undefined;
  readonly otherMeshes: readonly string[];
  readonly enrolled: readonly EnrolledFacts[];
  readonly permissions: readonly PermissionFacts[];
}

export interface NodeFacts {
  readonly name: string;
  readonly linux: boolean;
  readonly taints: readonly string[];
}

/** A program of the mesh: its Deployment or DaemonSet, and its pods. */
export interface ProgramFacts {
  readonly kind: 'Deployment' | 'DaemonSet';
  readonly name: string;
  readonly installed: boolean;
  readonly wanted: number;
  readonly pods: readonly PodFacts[];
}

export interface PodFacts {
  readonly name: string;
  readonly node: string;
  readonly ready: boolean;
  readonly version: string;
  /** What the pod says of why it is not ready. */
  readonly reason: string;
}

export interface GatewayClassFacts {
  readonly name: string;
  readonly controllerName: string;
  readonly accepted: boolean;
}

export interface WebhookFacts {
  readonly hasCaBundle: boolean;
}

/** A running pod that its labels want in the mesh. */
export interface EnrolledFacts {
  readonly name: string;
  readonly node: string;
  readonly captured: boolean;
}

/** What an account of the mesh is to be allowed, and whether it is. */
export interface PermissionFacts {
  readonly account: string;
  readonly may: string;
  /** Undefined where whoever asks may not know. */
  readonly allowed: boolean | undefined;
}

import type {
  Condition,
  ContainerSpec,
  ContainerState,
  ContainerStatus,
  Pod,
  PodStatus,
} from '../cluster/objects.ts';

/** What the kubelet knows of one container. */
export interface ContainerRecord {
  readonly spec: ContainerSpec;
  readonly role: 'init' | 'sidecar' | 'main';
  state: ContainerState;
  lastState: ContainerState;
  restartCount: number;
  ready: boolean;
  started: boolean;
  containerId: string | undefined;
}

export interface PodFacts {
  readonly records: readonly ContainerRecord[];
  readonly podIps: readonly string[];
  readonly hostIps: readonly string[];
  readonly startTime: string;
  readonly sandboxReady: boolean;
  readonly failure: { readonly reason: string; readonly message: string } | undefined;
}

export function newRecord(spec: ContainerSpec, role: ContainerRecord['role']): ContainerRecord {
  return {
    spec,
    role,
    state: { waiting: { reason: role === 'main' ? 'PodInitializing' : 'ContainerCreating' } },
    lastState: {},
    restartCount: 0,
    ready: false,
    started: false,
    containerId: undefined,
  };
}

/** The status that the API shows for a pod. */
export function statusOf(pod: Pod, facts: PodFacts, now: string): PodStatus {
  const main = facts.records.filter((r) => r.role === 'main');
  const init = facts.records.filter((r) => r.role !== 'main');
  const initialized = init.every((r) =>
    r.role === 'sidecar' ? r.started : r.state.terminated?.exitCode === 0,
  );
  const containersReady =
    initialized && [...main, ...init.filter((r) => r.role === 'sidecar')].every((r) => r.ready);
  const phase = facts.failure === undefined ? phaseOf(pod, main, init, initialized) : 'Failed';
  const finished = phase === 'Succeeded' || phase === 'Failed';
  const before = pod.status?.conditions ?? [];
  const gates = (pod.spec.readinessGates ?? []).every((gate) =>
    before.some((c) => c.type === gate.conditionType && c.status === 'True'),
  );
  const notReady = finished
    ? `Pod${phase === 'Succeeded' ? 'Completed' : 'Failed'}`
    : 'ContainersNotReady';
  const own: Condition[] = [
    conditionOf('PodReadyToStartContainers', facts.sandboxReady),
    conditionOf(
      'Initialized',
      initialized,
      phase === 'Succeeded' ? 'PodCompleted' : 'ContainersNotInitialized',
    ),
    conditionOf(
      'Ready',
      containersReady && gates && !finished,
      containersReady && !gates ? 'ReadinessGatesNotReady' : notReady,
    ),
    conditionOf('ContainersReady', containersReady && !finished, notReady),
    conditionOf('PodScheduled', true),
  ];
  const ownTypes = new Set(own.map((c) => c.type));
  return {
    phase,
    ...(facts.failure ?? {}),
    conditions: [
      ...own.map((condition) => keepTransition(condition, before, now)),
      ...before.filter((c) => !ownTypes.has(c.type)),
    ],
    containerStatuses: main.map(containerStatus),
    ...(init.length > 0 ? { initContainerStatuses: init.map(containerStatus) } : {}),
    ...(facts.podIps[0] === undefined
      ? {}
      : { podIP: facts.podIps[0], podIPs: facts.podIps.map((ip) => ({ ip })) }),
    ...(facts.hostIps[0] === undefined
      ? {}
      : { hostIP: facts.hostIps[0], hostIPs: facts.hostIps.map((ip) => ({ ip })) }),
    startTime: facts.startTime,
    qosClass: pod.status?.qosClass ?? 'BestEffort',
  };
}

function phaseOf(
  pod: Pod,
  main: readonly ContainerRecord[],
  init: readonly ContainerRecord[],
  initialized: boolean,
): NonNullable<PodStatus['phase']> {
  const policy = pod.spec.restartPolicy ?? 'Always';
  const initFailed = init.some(
    (r) => r.role === 'init' && (r.state.terminated?.exitCode ?? 0) !== 0,
  );
  if (initFailed && policy === 'Never') return 'Failed';
  if (!initialized) return 'Pending';
  if (main.some((r) => r.state.running !== undefined)) return 'Running';
  const ended = main.filter((r) => r.state.terminated !== undefined);
  if (ended.length === main.length && policy !== 'Always') {
    if (ended.every((r) => r.state.terminated?.exitCode === 0)) return 'Succeeded';
    return policy === 'Never' ? 'Failed' : 'Running';
  }
  const ranBefore = main.some(
    (r) => r.state.terminated !== undefined || r.lastState.terminated !== undefined,
  );
  return ranBefore ? 'Running' : 'Pending';
}

function conditionOf(type: string, holds: boolean, reason?: string): Condition {
  return {
    type,
    status: holds ? 'True' : 'False',
    ...(holds || reason === undefined ? {} : { reason }),
  };
}

function keepTransition(
  condition: Condition,
  before: readonly Condition[],
  now: string,
): Condition {
  const old = before.find((c) => c.type === condition.type);
  const unchanged = old?.status === condition.status && old.lastTransitionTime !== undefined;
  return { ...condition, lastTransitionTime: unchanged ? (old.lastTransitionTime ?? now) : now };
}

function containerStatus(record: ContainerRecord): ContainerStatus {
  const image = record.spec.image ?? '';
  return {
    name: record.spec.name,
    image,
    imageID: record.containerId === undefined ? '' : `sandbox://${image}`,
    ...(record.containerId === undefined ? {} : { containerID: `sandbox://${record.containerId}` }),
    ready: record.ready,
    started: record.started,
    restartCount: record.restartCount,
    state: record.state,
    lastState: record.lastState,
  };
}

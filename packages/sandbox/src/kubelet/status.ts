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
  const initialized = init.every(isInitialized);
  const phase = facts.failure === undefined ? phaseOf(pod, main, init, initialized) : 'Failed';
  const before = pod.status?.conditions ?? [];
  const own = conditionsOf(pod, facts, { phase, initialized });
  const ownTypes = new Set(own.map((c) => c.type));
  return {
    phase,
    ...facts.failure,
    conditions: [
      ...own.map((condition) => keepTransition(condition, before, now)),
      ...before.filter((c) => !ownTypes.has(c.type)),
    ],
    containerStatuses: main.map(containerStatus),
    ...(init.length > 0 ? { initContainerStatuses: init.map(containerStatus) } : {}),
    ...addressesOf(facts),
    startTime: facts.startTime,
    qosClass: pod.status?.qosClass ?? 'BestEffort',
  };
}

function isInitialized(record: ContainerRecord): boolean {
  return record.role === 'sidecar' ? record.started : record.state.terminated?.exitCode === 0;
}

function addressesOf({ podIps, hostIps }: PodFacts): PodStatus {
  const [podIP] = podIps;
  const [hostIP] = hostIps;
  return {
    ...(podIP === undefined ? {} : { podIP, podIPs: podIps.map((ip) => ({ ip })) }),
    ...(hostIP === undefined ? {} : { hostIP, hostIPs: hostIps.map((ip) => ({ ip })) }),
  };
}

function conditionsOf(
  pod: Pod,
  facts: PodFacts,
  { phase, initialized }: { phase: PodStatus['phase']; initialized: boolean },
): Condition[] {
  const serving = facts.records.filter((r) => r.role !== 'init');
  const containersReady = initialized && serving.every((r) => r.ready);
  const finished = phase === 'Succeeded' || phase === 'Failed';
  const gatesOpen = (pod.spec.readinessGates ?? []).every((gate) =>
    pod.status?.conditions?.some((c) => c.type === gate.conditionType && c.status === 'True'),
  );
  const done = phase === 'Succeeded' ? 'PodCompleted' : 'PodFailed';
  const notReady = finished ? done : 'ContainersNotReady';
  return [
    conditionOf('PodReadyToStartContainers', facts.sandboxReady),
    conditionOf(
      'Initialized',
      initialized,
      phase === 'Succeeded' ? done : 'ContainersNotInitialized',
    ),
    conditionOf(
      'Ready',
      containersReady && gatesOpen && !finished,
      containersReady && !gatesOpen ? 'ReadinessGatesNotReady' : notReady,
    ),
    conditionOf('ContainersReady', containersReady && !finished, notReady),
    conditionOf('PodScheduled', true),
  ];
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

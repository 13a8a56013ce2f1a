import type { PolicyAction } from '@ambit/api';
import type { Problem } from '../kube/decode/fields.ts';
import { field, list, reasonOf, text } from '../kube/decode/fields.ts';

/** A condition of a resource's status, as Kubernetes has them. */
export interface Condition {
  readonly type: string;
  readonly status: 'True' | 'False';
  readonly reason: string;
  readonly message: string;
  /** Absent where the kind knows none, as a Namespace. */
  readonly observedGeneration?: number;
  readonly lastTransitionTime: string;
}

/** Istio's name for what node proxies make of a resource. */
export const acceptedType = 'ZtunnelAccepted';
/** And for what waypoints make of one that is attached to targets. */
export const waypointAcceptedType = 'WaypointAccepted';

const maxMessageChars = 2048;

export interface Judged {
  readonly problems: readonly Problem[];
  /** Fields that only a proxy for HTTP can evaluate. */
  readonly requestFields: readonly string[];
  readonly generation: number;
  /** Of an AuthorizationPolicy. */
  readonly action?: PolicyAction;
  /** Enforced by waypoints, not by node proxies. */
  readonly targeted?: boolean;
}

/** What is to be said of a resource. */
export function acceptance(judged: Judged, now: string): Condition {
  const common = {
    type: judged.targeted === true ? waypointAcceptedType : acceptedType,
    observedGeneration: judged.generation,
    lastTransitionTime: now,
  };
  const problems = judged.problems.map(({ field: path, message }) => `${path}: ${message}`);
  if (problems.length > 0) {
    const reason = reasonOf(judged.problems);
    const isClosed = reason === 'Invalid' && judged.problems.some((one) => !one.admissible);
    const lead = isClosed ? 'kept closed where it is not understood: ' : '';
    const message = shortened(`${lead}${problems.join('; ')}`);
    return { ...common, status: 'False', reason, message };
  }
  if (judged.requestFields.length > 0) {
    const message = shortened(
      `ztunnel sees no HTTP attributes (${judged.requestFields.join(', ')}): ${withoutThem(judged)}; ` +
        'name the Service or its waypoint in spec.targetRefs instead of a selector, and the waypoint enforces it',
    );
    return { ...common, status: 'False', reason: 'UnsupportedValue', message };
  }
  const where = judged.targeted === true ? 'waypoints' : 'ztunnel';
  return { ...common, status: 'True', reason: 'Accepted', message: `attached to ${where}` };
}

/** What a node proxy makes of rules that ask for what it cannot see; nothing opens by that. */
function withoutThem({ action }: Judged): string {
  switch (action) {
    case 'DENY':
    case 'CUSTOM':
      return 'it refuses whatever the rest of each rule matches, also what comes through a waypoint';
    case 'AUDIT':
      return 'it tells nothing of what such a rule matches';
    default:
      return 'such a rule allows nothing there, also of what comes through a waypoint';
  }
}

/** The conditions to write, or undefined when those that stand there already say it. */
export function withCondition(
  existing: unknown,
  condition: Condition,
): readonly unknown[] | undefined {
  const conditions = list(existing);
  const own = conditions.find((one) => text(field(one, 'type')) === condition.type);
  if (own !== undefined && sameCondition(own, condition)) return undefined;
  const sameStatus = own !== undefined && text(field(own, 'status')) === condition.status;
  const since = text(field(own, 'lastTransitionTime'));
  const written =
    sameStatus && since !== '' ? { ...condition, lastTransitionTime: since } : condition;
  return [...conditions.filter((one) => one !== own), written];
}

function sameCondition(existing: unknown, condition: Condition): boolean {
  const { observedGeneration } = condition;
  return (
    text(field(existing, 'status')) === condition.status &&
    text(field(existing, 'reason')) === condition.reason &&
    text(field(existing, 'message')) === condition.message &&
    (observedGeneration === undefined ||
      field(existing, 'observedGeneration') === observedGeneration)
  );
}

function shortened(message: string): string {
  return message.length <= maxMessageChars ? message : `${message.slice(0, maxMessageChars - 1)}…`;
}

/** A condition that is to stand there, without its times. */
export type Wanted = Pick<Condition, 'type' | 'status' | 'reason' | 'message'>;

/** The conditions to write so that every wanted one stands, or undefined when they all do. */
export function setConditions(
  status: unknown,
  wanted: readonly Wanted[],
  generation: number | undefined,
  nowMs: number,
): readonly unknown[] | undefined {
  const now = new Date(nowMs).toISOString().replace(/\.\d+Z$/, 'Z');
  let conditions: unknown = field(status, 'conditions');
  let changed = false;
  for (const one of wanted) {
    const next = withCondition(conditions, {
      ...one,
      message: shortened(one.message),
      ...(generation === undefined ? {} : { observedGeneration: generation }),
      lastTransitionTime: now,
    });
    if (next === undefined) continue;
    conditions = next;
    changed = true;
  }
  return changed ? list(conditions) : undefined;
}

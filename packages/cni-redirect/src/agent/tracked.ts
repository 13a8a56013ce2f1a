import type { EnrolledPod } from '@ambit/api';
import { createBackoff } from '@ambit/core';
import type { PodFacts } from './enrol.ts';
import { isMarked, isRunning } from './enrol.ts';

/** What the agent knows of a pod of its node. */
export interface Tracked {
  facts: PodFacts;
  enrolled: EnrolledPod | undefined;
  /** The script of the rules that were put in place last; empty before that. */
  rules: string;
  /** False until its rules and listeners were seen in place, and again when one of them was lost. */
  verified: boolean;
  /** True once rules are known to be there: whatever fails then, nothing of the pod goes on in plain text. */
  closed: boolean;
  /** True once it was looked at with a ztunnel connected. */
  settled: boolean;
  /** True once it was let go: ztunnel lingers for it. */
  released: boolean;
  /** Under way while it is being marked; never rejects. */
  marking: Promise<void>;
  work: Promise<void>;
  retry: NodeJS.Timeout | undefined;
  readonly backoff: ReturnType<typeof createBackoff>;
}

export function trackedOf(facts: PodFacts, enrolled: EnrolledPod | undefined): Tracked {
  return {
    facts,
    enrolled,
    rules: '',
    verified: false,
    closed: false,
    settled: false,
    released: false,
    marking: Promise.resolve(),
    work: Promise.resolve(),
    retry: undefined,
    backoff: createBackoff(200, 10_000),
  };
}

/** Whether something of the mesh is in a pod, as far as is known. */
export function isBound({ facts, enrolled, closed, released }: Tracked): boolean {
  return enrolled !== undefined || closed || (isMarked(facts) && isRunning(facts) && !released);
}

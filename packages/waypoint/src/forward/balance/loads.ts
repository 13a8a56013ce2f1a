/** How far a level may lose endpoints before its traffic spills over: Envoy's overprovisioning of 1.4. */
const overprovisioning = 1.4;

export interface Health {
  readonly total: number;
  readonly healthy: number;
}

/** The part of its traffic that a group can bear, from 0 to 1. */
export function availability({ total, healthy }: Health): number {
  return total === 0 ? 0 : Math.min(1, (overprovisioning * healthy) / total);
}

/** True when so many are out that the fault is elsewhere: all of them are used. 0 never. */
export function panics({ total, healthy }: Health, minHealthPercent: number): boolean {
  return minHealthPercent > 0 && total > 0 && (healthy * 100) / total < minHealthPercent;
}

/**
 * Shares of the levels, which sum to 1: each takes what it can bear, the rest goes on to the next. When all of them
 * together cannot bear it, everybody takes more. All 0 when nobody is healthy.
 */
export function spillOver(levels: readonly Health[]): readonly number[] {
  const able = levels.map(availability);
  const all = Math.min(
    1,
    able.reduce((sum, one) => sum + one, 0),
  );
  if (all === 0) return able;
  let left = 1;
  return able.map((one) => {
    const share = Math.min(left, one / all);
    left -= share;
    return share;
  });
}

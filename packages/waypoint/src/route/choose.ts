import type { Target } from '@ambit/api';

/** One of the targets by their weights; undefined where the weights sum to 0. */
export function chooseTarget<T extends { readonly weight: number; readonly target: Target }>(
  targets: readonly T[],
  random: () => number,
): T | undefined {
  const [only] = targets;
  if (targets.length === 1) return only !== undefined && only.weight > 0 ? only : undefined;
  const sum = targets.reduce((total, { weight }) => total + weight, 0);
  let at = random() * sum;
  for (const target of targets) {
    at -= target.weight;
    if (at < 0) return target;
  }
  return undefined;
}

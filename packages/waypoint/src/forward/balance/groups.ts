import type { ChoiceOptions } from './choice.ts';
import { Choice } from './choice.ts';
import type { ChoiceContext, Host } from './host.ts';
import { availability, panics, spillOver } from './loads.ts';
import type { Placement } from './locality.ts';

interface Group<H extends Host> {
  readonly share: number;
  readonly choice: Choice<H>;
}

export interface GroupOptions<H> extends ChoiceOptions {
  readonly isOut: (host: H) => boolean;
  readonly minHealthPercent: number;
}

/** Where requests may go as things are: groups of endpoints with their shares. Made anew when health or lists change. */
export class Groups<H extends Host> {
  readonly #groups: readonly Group<H>[];

  constructor(placement: Placement<H>, options: GroupOptions<H>) {
    this.#groups = groupsOf(placement, options);
  }

  /** `elsewhere`: a repeat that is to leave the groups in which it has been. */
  pick(context: ChoiceContext, elsewhere: boolean): H | undefined {
    const groups = this.#groups;
    if (groups.length <= 1) return groups[0]?.choice.pick(context);
    const open = elsewhere ? untried(groups, context.exclude) : groups;
    const sum = open.reduce((total, { share }) => total + share, 0);
    let at = context.random() * sum;
    for (const { share, choice } of open) {
      at -= share;
      if (at < 0) return choice.pick(context);
    }
    // None of them has a share now: the nearest.
    return open[0]?.choice.pick(context);
  }
}

/** The groups of which no endpoint has had the request; all of them when there is none. */
function untried<H extends Host>(
  groups: readonly Group<H>[],
  tried: ReadonlySet<string>,
): readonly Group<H>[] {
  const rest = groups.filter(({ choice }) => !choice.hosts.some(({ id }) => tried.has(id)));
  return rest.length === 0 ? groups : rest;
}

function groupsOf<H extends Host>(
  placement: Placement<H>,
  options: GroupOptions<H>,
): readonly Group<H>[] {
  const parts = partsOf(placement);
  const states = parts.map(({ hosts, weight }) => {
    const healthy = hosts.filter((host) => !options.isOut(host));
    const health = { total: hosts.length, healthy: healthy.length };
    return { hosts, weight, healthy, health, panics: panics(health, options.minHealthPercent) };
  });
  const shares =
    placement.kind === 'levels'
      ? spillOver(states.map(({ health }) => health))
      : states.map(({ health, weight }) => weight * availability(health));
  const usable = states.flatMap(({ hosts, healthy, panics: all }, index) => {
    const used = all ? hosts : healthy;
    return used.length === 0 ? [] : [{ share: shares[index] ?? 0, hosts: used }];
  });
  const made = usable.map(({ share, hosts }) => ({ share, choice: new Choice(hosts, options) }));
  const bearing = made.filter(({ share }) => share > 0);
  // Nobody is healthy; those that are used nevertheless share it, or the nearest takes it.
  if (bearing.length === 0) {
    const all = placement.kind === 'levels' ? made.slice(0, 1) : made;
    return all.map(({ choice }) => ({ share: 1, choice }));
  }
  // Levels without a share now are where repeats may go.
  return placement.kind === 'levels' ? made : bearing;
}

function partsOf<H>(
  placement: Placement<H>,
): readonly { readonly hosts: readonly H[]; readonly weight: number }[] {
  switch (placement.kind) {
    case 'together':
      return [{ hosts: placement.hosts, weight: 1 }];
    case 'levels':
      return placement.levels.map((hosts) => ({ hosts, weight: 1 }));
    case 'shares':
      return placement.shares;
  }
}

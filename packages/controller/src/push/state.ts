import type { ResourceType, Upsert } from '@ambit/api';
import { resourceTypes } from '@ambit/api';

import type { Collection } from '../collections/collection.ts';

/** What every proxy is to hold now, and which of it has changed since it was last asked. */
export class SnapshotState {
  readonly #resources = new Map<ResourceType, Map<string, Upsert>>(
    resourceTypes.map((type) => [type, new Map<string, Upsert>()]),
  );
  #changed = new Map<ResourceType, Set<string>>();

  constructor(outputs: readonly Collection<Upsert>[]) {
    for (const output of outputs) this.#follow(output);
  }

  resource(type: ResourceType, name: string): Upsert | undefined {
    return this.#resources.get(type)?.get(name);
  }

  all(type: ResourceType): ReadonlyMap<string, Upsert> {
    return this.#resources.get(type) ?? new Map<string, Upsert>();
  }

  /** The names that changed since the last call. */
  takeChanged(): ReadonlyMap<ResourceType, ReadonlySet<string>> {
    const changed = this.#changed;
    this.#changed = new Map();
    return changed;
  }

  #follow(output: Collection<Upsert>): void {
    // A resource's name need not be the key of what it was compiled from.
    const names = new Map<string, Upsert>();
    output.onChange((key, value) => {
      const before = names.get(key);
      if (value === undefined) names.delete(key);
      else names.set(key, value);
      if (before !== undefined && before.name !== value?.name) this.#drop(before);
      if (value !== undefined) this.#put(value, value);
    });
  }

  /** Of two makers of one name the one that stopped may be heard last: what the other made stays. */
  #drop(before: Upsert): void {
    if (this.resource(before.type, before.name) === before) this.#put(before, undefined);
  }

  #put({ type, name }: Pick<Upsert, 'type' | 'name'>, value: Upsert | undefined): void {
    const resources = this.#resources.get(type);
    if (value === undefined) resources?.delete(name);
    else resources?.set(name, value);
    const changed = this.#changed.get(type);
    if (changed === undefined) this.#changed.set(type, new Set([name]));
    else changed.add(name);
  }
}

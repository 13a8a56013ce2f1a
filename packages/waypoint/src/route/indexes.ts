import type { RouteTable } from '@ambit/api';
import { RouteIndex } from './match.ts';

/** The index of each table's HTTP routes, made when it is first asked and forgotten with the table. */
export class RouteIndexes {
  readonly #indexes = new WeakMap<RouteTable, RouteIndex>();

  of(table: RouteTable): RouteIndex {
    let index = this.#indexes.get(table);
    if (index === undefined) {
      index = new RouteIndex(table.http);
      this.#indexes.set(table, index);
    }
    return index;
  }
}

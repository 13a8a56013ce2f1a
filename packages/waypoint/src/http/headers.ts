/**
 * The fields of one head in the order in which they came, names in lower case. A flat list beats a map here: heads are
 * short, repeated names must stay apart, and a stranger's names never become keys of an object.
 */
export class HeaderList {
  readonly #fields: string[];

  constructor(fields: string[] = []) {
    this.#fields = fields;
  }

  static of(entries: Iterable<readonly [name: string, value: string]>): HeaderList {
    const fields: string[] = [];
    for (const [name, value] of entries) fields.push(name, value);
    return new HeaderList(fields);
  }

  get count(): number {
    return this.#fields.length / 2;
  }

  /** The first value under a lower-case name. */
  get(name: string): string | undefined {
    const fields = this.#fields;
    for (let at = 0; at < fields.length; at += 2) {
      if (fields[at] === name) return fields[at + 1];
    }
    return undefined;
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  /** Every value under a lower-case name, one by one as they came. */
  all(name: string): string[] {
    const fields = this.#fields;
    const values: string[] = [];
    for (let at = 0; at < fields.length; at += 2) {
      if (fields[at] === name) values.push(fields[at + 1] ?? '');
    }
    return values;
  }

  append(name: string, value: string): void {
    this.#fields.push(name, value);
  }

  set(name: string, value: string): void {
    const fields = this.#fields;
    for (let at = 0; at < fields.length; at += 2) {
      if (fields[at] !== name) continue;
      fields[at + 1] = value;
      this.#deleteFrom(name, at + 2);
      return;
    }
    fields.push(name, value);
  }

  delete(name: string): void {
    this.#deleteFrom(name, 0);
  }

  /** Every field, one by one; cheaper than to iterate. */
  each(see: (name: string, value: string) => void): void {
    const fields = this.#fields;
    for (let at = 0; at < fields.length; at += 2) see(fields[at] ?? '', fields[at + 1] ?? '');
  }

  /** True where the name of a field is one of those. */
  some(isMeant: (name: string) => boolean): boolean {
    const fields = this.#fields;
    for (let at = 0; at < fields.length; at += 2) if (isMeant(fields[at] ?? '')) return true;
    return false;
  }

  /** Takes away every field whose name is one of those. */
  deleteWhere(isMeant: (name: string) => boolean): void {
    const fields = this.#fields;
    let kept = 0;
    // Mostly there is none, and nothing to be moved.
    while (kept < fields.length && !isMeant(fields[kept] ?? '')) kept += 2;
    if (kept >= fields.length) return;
    for (let at = kept + 2; at < fields.length; at += 2) {
      const name = fields[at] ?? '';
      if (isMeant(name)) continue;
      fields[kept] = name;
      fields[kept + 1] = fields[at + 1] ?? '';
      kept += 2;
    }
    fields.length = kept;
  }

  #deleteFrom(name: string, start: number): void {
    const fields = this.#fields;
    let kept = start;
    while (kept < fields.length && fields[kept] !== name) kept += 2;
    if (kept >= fields.length) return;
    for (let at = kept + 2; at < fields.length; at += 2) {
      if (fields[at] === name) continue;
      fields[kept] = fields[at] ?? '';
      fields[kept + 1] = fields[at + 1] ?? '';
      kept += 2;
    }
    fields.length = kept;
  }

  clone(): HeaderList {
    return new HeaderList([...this.#fields]);
  }

  *[Symbol.iterator](): IterableIterator<readonly [name: string, value: string]> {
    const fields = this.#fields;
    for (let at = 0; at < fields.length; at += 2) yield [fields[at] ?? '', fields[at + 1] ?? ''];
  }

  /** As lines of HTTP/1.1, each with its line end. */
  toLines(): string {
    const fields = this.#fields;
    let lines = '';
    for (let at = 0; at < fields.length; at += 2) {
      lines += `${fields[at] ?? ''}: ${fields[at + 1] ?? ''}\r\n`;
    }
    return lines;
  }
}

/** What a reader finds. */
export interface LenientEvents {
  head(method: string, path: string, fields: ReadonlyMap<string, string>): void;
  end(body: string): void;
  malformed(): void;
}

/**
 * A reader of HTTP/1.1 as careless servers have it: lines end with a line feed, blanks around names are nothing, of two
 * fields the last one holds, chunks are anything that has `chunked` in its coding. Whatever such a one could take for
 * two requests or for none must not reach it.
 */
export class LenientReader {
  readonly #events: LenientEvents;
  #text = '';
  #body = '';
  #state: 'head' | 'length' | 'chunk-size' | 'chunk' | 'trailers' | 'broken' = 'head';
  #left = 0;

  constructor(events: LenientEvents) {
    this.#events = events;
  }

  push(chunk: Buffer): void {
    this.#text += chunk.toString('latin1');
    while (this.#step());
  }

  #line(): string | undefined {
    const end = this.#text.indexOf('\n');
    if (end < 0) return undefined;
    const line = this.#text.slice(0, end).replace(/\r$/, '');
    this.#text = this.#text.slice(end + 1);
    return line;
  }

  #step(): boolean {
    switch (this.#state) {
      case 'head':
        return this.#head();
      case 'length':
      case 'chunk':
        return this.#take();
      case 'chunk-size':
        return this.#size();
      case 'trailers':
        return this.#trailer();
      case 'broken':
        return false;
    }
  }

  #take(): boolean {
    const behind = this.#state === 'chunk' ? this.#text.indexOf('\n', this.#left) : 0;
    if (this.#text.length < this.#left || behind < 0) return false;
    this.#body += this.#text.slice(0, this.#left);
    this.#text = this.#text.slice(this.#left);
    if (this.#state === 'length') this.#end();
    else {
      this.#line();
      this.#state = 'chunk-size';
    }
    return true;
  }

  #size(): boolean {
    const line = this.#line();
    if (line === undefined) return false;
    this.#left = Number.parseInt(line, 16);
    if (Number.isNaN(this.#left)) return this.#break();
    this.#state = this.#left === 0 ? 'trailers' : 'chunk';
    return true;
  }

  #trailer(): boolean {
    const line = this.#line();
    if (line === '') this.#end();
    return line !== undefined;
  }

  #head(): boolean {
    const end = /\n\r?\n/.exec(this.#text);
    if (end === null) return false;
    const [first = '', ...lines] = this.#text.slice(0, end.index).split('\n');
    this.#text = this.#text.slice(end.index + end[0].length);
    const [method = '', path = '', version] = first.trim().split(/\s+/);
    if (version === undefined) return this.#break();
    const fields = new Map<string, string>();
    for (const line of lines) {
      const colon = line.indexOf(':');
      if (colon >= 0)
        fields.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
    }
    this.#body = '';
    this.#events.head(method, path, fields);
    this.#left = Number.parseInt(fields.get('content-length') ?? '0', 10);
    if (/chunked/i.test(fields.get('transfer-encoding') ?? '')) this.#state = 'chunk-size';
    else if (this.#left > 0) this.#state = 'length';
    else this.#end();
    return true;
  }

  #end(): void {
    this.#state = 'head';
    this.#events.end(this.#body);
  }

  #break(): false {
    this.#state = 'broken';
    this.#events.malformed();
    return false;
  }
}

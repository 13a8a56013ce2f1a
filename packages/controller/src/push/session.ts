import type { Ack, Hello, Nack, ResourceType, SnapshotUpdate, Upsert } from '@ambit/api';
import { resourceTypes, subscriptions } from '@ambit/api';

import type { Chunk, Current, Difference } from './diff.ts';
import { chunked, fullDifference, namedDifference } from './diff.ts';

/** What a session needs of its connection. */
export interface SessionPort {
  readonly send: (frame: SnapshotUpdate) => void;
  readonly maxFrameBytes: number;
  readonly onRejected: (rejected: Nack['rejected'][number]) => void;
  readonly onTooBig: (upsert: Upsert) => void;
}

interface Push {
  readonly lastNonce: number;
  /** Sent one by one, each when the one before was answered: a proxy's share of memory is one frame. */
  readonly waiting: Chunk[];
}

/**
 * The life of one proxy: it greets, waits until the controller knows everything, and then follows. While it owes an
 * answer nothing more is sent; what changes meanwhile is gathered by name, so a slow proxy costs a set of names.
 */
type SessionState =
  | { readonly kind: 'greeting' }
  | { readonly kind: 'waiting'; readonly held: Map<ResourceType, Map<string, string>> }
  | {
      readonly kind: 'following';
      readonly held: Map<ResourceType, Map<string, string>>;
      readonly dirty: Map<ResourceType, Set<string>>;
      readonly push: Push | undefined;
    };

export class Session {
  readonly #port: SessionPort;
  readonly #current: Current;
  readonly #nacked = new Map<string, string>();
  #state: SessionState = { kind: 'greeting' };
  #types: ReadonlySet<ResourceType> = new Set();
  #nonce = 0;
  #lastAcked = 0;

  constructor(port: SessionPort, current: Current) {
    this.#port = port;
    this.#current = current;
  }

  get stage(): SessionState['kind'] {
    return this.#state.kind;
  }

  /** True while nothing is owed in either direction. */
  get idle(): boolean {
    return this.#state.kind === 'following' && this.#state.push === undefined;
  }

  get lastAcked(): number {
    return this.#lastAcked;
  }

  /** `<type>/<name>` of what the proxy refused and still refuses, with its reason. */
  get nacked(): ReadonlyMap<string, string> {
    return this.#nacked;
  }

  /** False when a proxy greets twice, which ends it. */
  hello(frame: Hello, synced: boolean): boolean {
    if (this.#state.kind !== 'greeting') return false;
    const held = new Map<ResourceType, Map<string, string>>();
    for (const type of resourceTypes) held.set(type, new Map());
    for (const { type, versions } of frame.held) {
      const known = held.get(type);
      for (const [name, version] of versions) known?.set(name, version);
    }
    this.#types = subscriptions[frame.program];
    this.#state = { kind: 'waiting', held };
    if (synced) this.begin();
    return true;
  }

  /** The controller knows everything: what the proxy holds can be judged now. */
  begin(): void {
    if (this.#state.kind !== 'waiting') return;
    const { held } = this.#state;
    this.#state = { kind: 'following', held, dirty: new Map(), push: undefined };
    this.#send(held, fullDifference(held, this.#current, this.#types));
  }

  changed(names: ReadonlyMap<ResourceType, ReadonlySet<string>>): void {
    if (this.#state.kind !== 'following') return;
    for (const [type, changed] of names) {
      if (!this.#types.has(type)) continue;
      const dirty = this.#state.dirty.get(type);
      if (dirty === undefined) this.#state.dirty.set(type, new Set(changed));
      else for (const name of changed) dirty.add(name);
    }
    this.#follow();
  }

  /** False for an answer to nothing that was asked, which ends the proxy. */
  answered(frame: Ack | Nack): boolean {
    if (this.#state.kind !== 'following' || frame.nonce > this.#nonce || frame.nonce < 1)
      return false;
    this.#lastAcked = Math.max(this.#lastAcked, frame.nonce);
    if (frame.kind === 'nack') {
      for (const rejected of frame.rejected) {
        // It keeps its last good one; the same version is not sent to it again.
        this.#nacked.set(`${rejected.type}/${rejected.name}`, rejected.reason);
        this.#port.onRejected(rejected);
      }
    }
    const { push } = this.#state;
    if (push === undefined) return true;
    if (frame.nonce >= push.lastNonce) {
      this.#state = { ...this.#state, push: undefined };
      this.#follow();
    } else if (frame.nonce === this.#nonce) {
      this.#sendNext(push.waiting);
    }
    return true;
  }

  #follow(): void {
    if (this.#state.kind !== 'following' || this.#state.push !== undefined) return;
    const { held, dirty } = this.#state;
    if (dirty.size === 0) return;
    const difference = namedDifference(held, this.#current, dirty);
    dirty.clear();
    if (difference.upserts.length + difference.removals.length > 0) this.#send(held, difference);
  }

  #send(held: Map<ResourceType, Map<string, string>>, difference: Difference): void {
    const { chunks, tooBig } = chunked(difference, this.#port.maxFrameBytes);
    for (const upsert of tooBig) this.#port.onTooBig(upsert);
    for (const { type, name, version } of difference.upserts) {
      held.get(type)?.set(name, version);
      this.#nacked.delete(`${type}/${name}`);
    }
    for (const { type, name } of difference.removals) {
      held.get(type)?.delete(name);
      this.#nacked.delete(`${type}/${name}`);
    }
    if (this.#state.kind === 'following') {
      const push = { lastNonce: this.#nonce + chunks.length, waiting: [...chunks] };
      this.#state = { ...this.#state, push };
      this.#sendNext(push.waiting);
    }
  }

  #sendNext(waiting: Chunk[]): void {
    const chunk = waiting.shift();
    if (chunk === undefined) return;
    this.#nonce += 1;
    this.#port.send({ kind: 'update', nonce: this.#nonce, ...chunk });
  }
}

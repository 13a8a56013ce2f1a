import type { SpiffeIdentity } from '@ambit/api';
import { causeChain } from '../errors.ts';
import type { Logger } from '../observe/logger.ts';
import type { CertificateParts, WorkloadCertificate } from '../tls/index.ts';
import { parseWorkloadCertificate } from '../tls/index.ts';
import type { MeshStateUpdater } from './mesh-store.ts';
import type { SavedState, StateFile, StateFileOptions } from './state-file.ts';
import { openStateFile } from './state-file.ts';
import type { MeshState } from './state.ts';

export interface StateKeeperOptions {
  /** Undefined: nothing is kept. */
  readonly file: StateFileOptions | undefined;
  readonly state: MeshState;
  readonly updater: MeshStateUpdater;
  /** Whether somebody here still holds an identity. */
  readonly holds: (identity: string) => boolean;
  readonly logger: Logger;
}

/** Keeps the last good state on disk, and gives it back to a proxy that starts while the controller is away. */
export interface StateKeeper {
  /** The controller was heard just now, or it is connected (until it is not). */
  contact(state: 'connected' | 'lost'): void;
  /** The controller cannot be reached: fills what is missing with the saved state. True once the state is complete. */
  restore(): boolean;
  /** A certificate of before, once for each identity: `fresh` only while it need not be renewed. */
  certificate(identity: SpiffeIdentity, want: 'fresh' | 'valid'): WorkloadCertificate | undefined;
  remember(identity: SpiffeIdentity, parts: CertificateParts): void;
  close(): Promise<void>;
}

/** Changes come in bursts; a burst is written once. */
const minPauseMs = 2_000;
/** Writing takes at most a twentieth of the time, whatever the size. */
const pausePerCost = 20;

export async function createStateKeeper(options: StateKeeperOptions): Promise<StateKeeper> {
  const { file: where, logger } = options;
  let file: StateFile | undefined;
  let saved: SavedState | undefined;
  try {
    file = where === undefined ? undefined : await openStateFile(where);
    saved = await file?.load(new Date());
  } catch (error) {
    logger.error({ reason: causeChain(error) }, 'the saved state is not used');
  }
  return new Keeper(options, file, saved);
}

class Keeper implements StateKeeper {
  readonly #options: StateKeeperOptions;
  readonly #file: StateFile | undefined;
  readonly #parts: Map<string, CertificateParts>;
  readonly #given = new Set<string>();
  readonly #unsubscribe: () => void;
  #saved: SavedState | undefined;
  #asOf: Date;
  #connected = false;
  #dirty = false;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();
  #pauseMs = minPauseMs;

  constructor(
    options: StateKeeperOptions,
    file: StateFile | undefined,
    saved: SavedState | undefined,
  ) {
    this.#options = options;
    this.#file = file;
    this.#saved = saved;
    this.#asOf = saved?.asOf ?? new Date(0);
    this.#parts = new Map(saved?.certificates);
    this.#unsubscribe = options.state.subscribe(() => this.#changed());
  }

  contact(state: 'connected' | 'lost'): void {
    if (state === 'connected' || this.#connected) this.#asOf = new Date();
    this.#connected = state === 'connected';
  }

  restore(): boolean {
    const { state, updater, logger } = this.#options;
    if (state.complete || this.#saved === undefined) return state.complete;
    const { asOf, update } = this.#saved;
    this.#saved = undefined;
    // What the controller did send before it went is newer.
    const known = new Set(
      state.held().flatMap(({ type, versions }) => versions.map(([name]) => `${type} ${name}`)),
    );
    updater.apply({
      ...update,
      upserts: update.upserts.filter(({ type, name }) => !known.has(`${type} ${name}`)),
    });
    logger.warn(
      { asOf: asOf.toISOString(), resources: update.upserts.length },
      'the controller is away: going on with the saved state',
    );
    return true;
  }

  certificate(identity: SpiffeIdentity, want: 'fresh' | 'valid'): WorkloadCertificate | undefined {
    const parts = this.#given.has(identity.uri) ? undefined : this.#parts.get(identity.uri);
    if (parts === undefined) return undefined;
    const parsed = parseWorkloadCertificate(parts);
    if (!parsed.ok || parsed.value.identity.uri !== identity.uri) return undefined;
    const until = want === 'fresh' ? parsed.value.refreshAt : parsed.value.notAfter;
    if (until.getTime() <= Date.now()) return undefined;
    this.#given.add(identity.uri);
    return parsed.value;
  }

  remember({ uri }: SpiffeIdentity, parts: CertificateParts): void {
    this.#given.add(uri);
    this.#parts.set(uri, parts);
    this.#changed();
  }

  async close(): Promise<void> {
    this.#unsubscribe();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#writing;
    if (this.#dirty || this.#connected) await this.#write();
  }

  #changed(): void {
    this.#dirty = true;
    if (this.#file === undefined || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#writing = this.#write();
    }, this.#pauseMs);
    this.#timer.unref();
  }

  async #write(): Promise<void> {
    const { state, holds, logger } = this.#options;
    // Half a state is no last good one.
    if (this.#file === undefined || !state.complete) return;
    this.#dirty = false;
    for (const identity of this.#parts.keys()) {
      if (this.#given.has(identity) && !holds(identity)) this.#parts.delete(identity);
    }
    const began = performance.now();
    try {
      await this.#file.save({
        asOf: this.#connected ? new Date() : this.#asOf,
        ...state.snapshot(),
        certificates: this.#parts,
      });
    } catch (error) {
      this.#dirty = true;
      logger.error({ reason: causeChain(error) }, 'the state was not saved');
    }
    this.#pauseMs = Math.max(minPauseMs, (performance.now() - began) * pausePerCost);
  }
}

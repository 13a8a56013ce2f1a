import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { mkdir, open, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { DecodedUpdate, Upsert } from '@ambit/api';
import { decodeControllerFrame, frameSchema } from '@ambit/api';
import { MeshError, errnoCode } from '../errors.ts';
import type { CertificateParts } from '../tls/index.ts';
import type { Undecodable } from './state.ts';

/** What a proxy needs to go on with where it was, should the controller be away when it starts. */
export interface StateContent {
  /** When the controller was last heard; the state may have changed there since. */
  readonly asOf: Date;
  readonly upserts: readonly Upsert[];
  readonly undecodable: readonly Undecodable[];
  /** By identity. */
  readonly certificates: ReadonlyMap<string, CertificateParts>;
}

export interface SavedState {
  readonly asOf: Date;
  readonly update: DecodedUpdate;
  readonly certificates: ReadonlyMap<string, CertificateParts>;
}

export interface StateFileOptions {
  readonly path: string;
  /** 32 bytes in base64; made when it is not there. On a file system in memory it does not outlive the machine's run. */
  readonly keyPath: string;
  /** An older state is not used: what has been forbidden since would be allowed by it. */
  readonly maxAgeMs: number;
}

/** The last good state on disk, in one file that only its key opens and that is either whole or not there. */
export interface StateFile {
  /** Undefined when there is none. Throws `state/…` when there is one that must not be used. */
  load(now: Date): Promise<SavedState | undefined>;
  save(content: StateContent): Promise<void>;
}

const cipher = 'aes-256-gcm';
const magic = Buffer.from('AMBIT-S1');
const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

export async function openStateFile(options: StateFileOptions): Promise<StateFile> {
  await mkdir(dirname(options.path), { recursive: true, mode: 0o700 });
  await removeHalves(options.path);
  const key = await keyOf(options.keyPath);
  return {
    async load(now) {
      const sealed = await read(options.path);
      if (sealed === undefined) return undefined;
      const saved = decode(unseal(key, sealed, options.path), options.path);
      const ageMs = now.getTime() - saved.asOf.getTime();
      if (ageMs > options.maxAgeMs) {
        throw new MeshError(
          'state/too-old',
          `${options.path} is of ${saved.asOf.toISOString()}, older than ${options.maxAgeMs / 1000} s`,
        );
      }
      return saved;
    },
    async save(content) {
      await replace(options.path, seal(key, Buffer.from(encode(content))));
    },
  };
}

async function keyOf(path: string): Promise<Buffer> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  try {
    const made = randomBytes(keyBytes);
    await writeFile(path, `${made.toString('base64')}\n`, { flag: 'wx', mode: 0o600 });
    return made;
  } catch (error) {
    if (errnoCode(error) !== 'EEXIST') throw error;
  }
  const key = Buffer.from((await readFile(path, 'utf8')).trim(), 'base64');
  if (key.length === keyBytes) return key;
  throw new MeshError('state/key', `${path} does not hold ${keyBytes} bytes in base64; remove it`);
}

async function read(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errnoCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Longer than any write takes. */
const halfAgeMs = 60_000;

/** What writers left that ended in the middle. */
async function removeHalves(path: string): Promise<void> {
  const folder = dirname(path);
  for (const name of await readdir(folder)) {
    if (!name.startsWith(`${basename(path)}.`) || !name.endsWith('.new')) continue;
    const file = join(folder, name);
    const about = await stat(file).catch(() => undefined);
    if (about !== undefined && Date.now() - about.mtimeMs > halfAgeMs)
      await rm(file, { force: true });
  }
}

/**
 * Beside it first and then in its place, so that a crash leaves the old or the new one, never half of one. Each writer has
 * a name of its own beside it: while one proxy takes over from another, two of them save.
 */
async function replace(path: string, content: Buffer): Promise<void> {
  const beside = `${path}.${randomBytes(6).toString('hex')}.new`;
  try {
    const file = await open(beside, 'w', 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}

function seal(key: Buffer, plain: Buffer): Buffer {
  const nonce = randomBytes(nonceBytes);
  const gcm = createCipheriv(cipher, key, nonce, { authTagLength: tagBytes });
  gcm.setAAD(magic);
  const body = Buffer.concat([gcm.update(plain), gcm.final()]);
  return Buffer.concat([magic, nonce, gcm.getAuthTag(), body]);
}

function unseal(key: Buffer, sealed: Buffer, path: string): string {
  const bodyAt = magic.length + nonceBytes + tagBytes;
  if (sealed.length < bodyAt || !sealed.subarray(0, magic.length).equals(magic)) {
    throw new MeshError('state/unreadable', `${path} is no saved state of this version`);
  }
  const nonce = sealed.subarray(magic.length, magic.length + nonceBytes);
  const gcm = createDecipheriv(cipher, key, nonce, { authTagLength: tagBytes });
  gcm.setAAD(magic);
  gcm.setAuthTag(sealed.subarray(magic.length + nonceBytes, bodyAt));
  try {
    return Buffer.concat([gcm.update(sealed.subarray(bodyAt)), gcm.final()]).toString('utf8');
  } catch (cause) {
    throw new MeshError('state/unreadable', `${path} was changed, or its key was`, { cause });
  }
}

function encode({ asOf, upserts, undecodable, certificates }: StateContent): string {
  return JSON.stringify({
    schema: frameSchema,
    asOf: asOf.toISOString(),
    update: { kind: 'update', nonce: 0, upserts, removals: [], complete: true },
    undecodable,
    certificates: [...certificates],
  });
}

/** The seal vouches for the shape; only another version of this program can have written another one. */
function decode(text: string, path: string): SavedState {
  const saved = JSON.parse(text) as {
    readonly schema: number;
    readonly asOf: string;
    readonly update: unknown;
    readonly undecodable: readonly Undecodable[];
    readonly certificates: readonly (readonly [string, CertificateParts])[];
  };
  const frame =
    saved.schema === frameSchema ? decodeControllerFrame(JSON.stringify(saved.update)) : undefined;
  if (frame?.ok !== true || frame.value.kind !== 'update') {
    throw new MeshError('state/unreadable', `${path} was written by another version`);
  }
  const unreadable = saved.undecodable.map((it) => ({ ...it, reason: 'it was unreadable before' }));
  return {
    asOf: new Date(saved.asOf),
    update: { ...frame.value, undecodable: [...frame.value.undecodable, ...unreadable] },
    certificates: new Map(saved.certificates),
  };
}

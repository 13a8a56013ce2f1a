import { chmod, readFile, rename, writeFile } from 'node:fs/promises';
import type { KubeObject, ResourceKey } from './object.ts';
import type { Storage } from './storage.ts';

interface Saved {
  readonly format: 1;
  readonly resourceVersion: number;
  readonly signingKey: string;
  readonly collections: readonly {
    readonly key: ResourceKey;
    readonly objects: readonly [string, KubeObject][];
  }[];
}

const quietMs = 200;
/** A run that was killed may have handed out versions it did not save; clients that hold those list anew. */
const versionGap = 10_000;

export interface StateFile {
  /** Of the run before; undefined where there was none. */
  readonly signingKey: string | undefined;
  /** Saves after every change, once it has been quiet for a moment. */
  follow(signingKey: string): { close(): Promise<void> };
}

/**
 * Opens the file that keeps the objects over a restart. It holds Secrets and the signing key in clear: its mode is 0600.
 * @throws Error that names the file where it is there and cannot be read
 */
export async function openStateFile(
  path: string,
  storage: Storage,
  onError: (error: unknown) => void,
): Promise<StateFile> {
  const saved = await load(path);
  if (saved !== undefined)
    storage.restore(saved.resourceVersion + versionGap, [...saved.collections]);
  return {
    signingKey: saved?.signingKey,
    follow: (signingKey) => follow(path, storage, signingKey, onError),
  };
}

async function load(path: string): Promise<Saved | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const saved = JSON.parse(text) as Partial<Saved>;
    if (saved.format === 1) return saved as Saved;
  } catch {
    // Told below with the file's name, which the parser does not know.
  }
  throw new Error(
    `${path} does not hold the state of a sandbox: move it away to start with an empty one`,
  );
}

function follow(
  path: string,
  storage: Storage,
  signingKey: string,
  onError: (error: unknown) => void,
): { close(): Promise<void> } {
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> = Promise.resolve();
  const save = (): void => {
    timer = undefined;
    writing = writing.then(() => write(path, snapshot(storage, signingKey))).catch(onError);
  };
  const following = storage.followAll(() => {
    timer ??= setTimeout(save, quietMs);
  });
  return {
    async close() {
      following.close();
      clearTimeout(timer);
      save();
      await writing;
    },
  };
}

function snapshot(storage: Storage, signingKey: string): Saved {
  return {
    format: 1,
    resourceVersion: storage.version,
    signingKey,
    collections: storage.everything().map(({ key, objects }) => ({ key, objects: [...objects] })),
  };
}

async function write(path: string, saved: Saved): Promise<void> {
  const draft = `${path}.new`;
  await writeFile(draft, JSON.stringify(saved), { mode: 0o600 });
  await chmod(draft, 0o600);
  await rename(draft, path);
}

import { lstat } from 'node:fs/promises';
import { join } from 'node:path';

/** A directory for plugins, as this process sees it and as the host names it. */
export interface BinDir {
  readonly binDir: string;
  readonly binDirOnHost: string;
}

/**
 * Why the runtime does not look for plugins here, as far as the other plugins of a chain tell; undefined where it does.
 * A runtime may have several directories (containerd's `bin_dirs`, CRI-O's `plugin_dirs`): one plugin of them is enough.
 */
export async function binDirProblem(
  types: readonly string[],
  { binDir, binDirOnHost }: BinDir,
): Promise<string | undefined> {
  const found = await Promise.all(types.map((type) => isExecutable(join(binDir, type))));
  if (types.length === 0 || found.includes(true)) return undefined;
  const named = [...new Set(types)];
  const missing =
    named.length === 1
      ? `its plugin ${named[0] ?? ''} is not`
      : `of its plugins ${named.join(', ')} none is`;
  return `${missing} in ${binDirOnHost}, so the container runtime looks for plugins elsewhere and would not find this one; set cniBinDir (CNI_BIN_DIR) to the directory where they are`;
}

/** A link counts whatever it leads to: k3s's lead out of the directory, and so out of what the agent sees of the host. */
async function isExecutable(path: string): Promise<boolean> {
  return lstat(path).then(
    (found) => found.isSymbolicLink() || (found.isFile() && (found.mode & 0o111) !== 0),
    () => false,
  );
}

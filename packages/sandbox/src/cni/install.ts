import { existsSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface CniInstallOptions {
  readonly confDir: string;
  readonly binDir: string;
  readonly dataDir: string;
  readonly subnet: string;
  readonly subnet6: string | undefined;
}

export const conflistName = '10-sandbox.conflist';

/** The plugin's program: beside a bundle, or the source that Node runs directly. */
function programFile(): string {
  const bundled = fileURLToPath(new URL('./sandbox-ptp.mjs', import.meta.url));
  return existsSync(bundled) ? bundled : fileURLToPath(new URL('./main.ts', import.meta.url));
}

/** Puts the interface plugin and its network configuration where the node's kubelet looks for them. */
export async function installInterfacePlugin(options: CniInstallOptions): Promise<void> {
  await Promise.all(
    [options.confDir, options.binDir, options.dataDir].map((dir) =>
      mkdir(dir, { recursive: true }),
    ),
  );
  const plugin = join(options.binDir, 'sandbox-ptp');
  await writeFile(
    plugin,
    `#!/bin/sh\nexec '${process.execPath}' --no-warnings '${programFile()}'\n`,
    { mode: 0o755 },
  );
  const conflist = {
    cniVersion: '1.0.0',
    name: 'sandbox',
    plugins: [
      {
        type: 'sandbox-ptp',
        subnet: options.subnet,
        ...(options.subnet6 === undefined ? {} : { subnet6: options.subnet6 }),
        dataDir: options.dataDir,
      },
    ],
  };
  // The kubelet may look at any moment: the file appears whole.
  const target = join(options.confDir, conflistName);
  await writeFile(`${target}.tmp`, `${JSON.stringify(conflist, null, 2)}\n`);
  await rename(`${target}.tmp`, target);
}

import { chmod, copyFile, mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '@ambit/core';
import { causeChain } from '@ambit/core';
import type { Conflist } from './conflist.ts';
import { chained, parseConflist, pluginType, unchained } from './conflist.ts';

export interface InstallOptions {
  readonly confDir: string;
  readonly binDir: string;
  readonly pluginSource: string;
  readonly agentSocket: string;
  readonly excludeNamespaces: readonly string[];
  readonly logger: Logger;
}

export interface Installation {
  /** Takes the plugin out of the chain and removes it. */
  uninstall(): Promise<void>;
  close(): void;
}

const checkMs = 2_000;

/** Installs the plugin and keeps it chained, whoever rewrites the configuration. */
export async function install(options: InstallOptions): Promise<Installation> {
  const target = join(options.binDir, pluginType);
  await mkdir(options.binDir, { recursive: true });
  // The runtime may call it at any moment: the file appears whole.
  await copyFile(options.pluginSource, `${target}.tmp`);
  await chmod(`${target}.tmp`, 0o755);
  await rename(`${target}.tmp`, target);
  await chain(options);
  const timer = setInterval(() => {
    chain(options).catch((error: unknown) =>
      options.logger.warn({ reason: causeChain(error) }, 'the CNI configuration cannot be chained'),
    );
  }, checkMs);
  return {
    async uninstall() {
      clearInterval(timer);
      const found = await primaryConfiguration(options.confDir);
      if (found !== undefined) await write(found.file, unchained(found.conflist));
      await rm(target, { force: true });
    },
    close: () => clearInterval(timer),
  };
}

async function chain(options: InstallOptions): Promise<void> {
  const found = await primaryConfiguration(options.confDir);
  if (found === undefined) {
    options.logger.debug({ dir: options.confDir }, 'no CNI configuration yet');
    return;
  }
  const wanted = chained(found.conflist, {
    type: pluginType,
    agentSocket: options.agentSocket,
    excludeNamespaces: options.excludeNamespaces,
  });
  if (JSON.stringify(wanted) === JSON.stringify(found.conflist)) return;
  await write(found.conflistFile, wanted);
  if (found.file !== found.conflistFile) await rm(found.file, { force: true });
  options.logger.info({ file: found.conflistFile }, 'chained into the CNI configuration');
}

interface Found {
  readonly file: string;
  /** Where the chain is written: a single `.conf` becomes a `.conflist`. */
  readonly conflistFile: string;
  readonly conflist: Conflist;
}

/** The configuration that the runtime uses: the first by name that is readable. */
async function primaryConfiguration(confDir: string): Promise<Found | undefined> {
  const names = (await readdir(confDir).catch(() => [] as string[])).sort();
  for (const name of names) {
    if (!/\.(?:conf|conflist|json)$/.test(name)) continue;
    const file = join(confDir, name);
    const conflist = parseConflist(await readFile(file, 'utf8'));
    if (conflist !== undefined)
      return { file, conflistFile: file.replace(/\.(?:conf|json)$/, '.conflist'), conflist };
  }
  return undefined;
}

async function write(file: string, conflist: Conflist): Promise<void> {
  await writeFile(`${file}.ambit-tmp`, `${JSON.stringify(conflist, null, 2)}\n`, { mode: 0o600 });
  await rename(`${file}.ambit-tmp`, file);
}

import type { FSWatcher } from 'node:fs';
import { constants, watch } from 'node:fs';
import { access } from 'node:fs/promises';
import { leavingAnnotation } from '@ambit/api';
import type { Logger } from '@ambit/core';
import { MeshError, causeChain, errnoCode } from '@ambit/core';
import { unchainCached } from './cached-configs.ts';
import { chainInto, chainObstacle, directoryProblem, unchainAll } from './conf-dir.ts';
import { pluginType } from './conflist.ts';
import type { PluginFiles } from './plugin-files.ts';
import { fingerprint, installPlugin, removePlugin } from './plugin-files.ts';

export interface Directories {
  readonly confDir: string;
  readonly binDir: string;
  /** `binDir` as the host names it. */
  readonly binDirOnHost: string;
}

export interface InstallOptions extends Directories {
  readonly pluginSource: string;
  /** Where libcni keeps the configurations of pods that run. */
  readonly cacheDir: string;
  readonly agentSocket: string;
  readonly excludeNamespaces: readonly string[];
  /** Puts nothing there before it is resumed: the mesh is leaving the node. */
  readonly held?: boolean;
  readonly logger: Logger;
}

export interface Installation {
  /** Why the runtime does not call the plugin; undefined where it does. */
  readonly missing: string | undefined;
  /** Takes the plugin out of the chain and removes it. */
  uninstall(): Promise<void>;
  /** Installs it again after that. */
  resume(): Promise<void>;
  close(): void;
}

const checkMs = 2_000;
const settleMs = 50;
const leavingText = `the mesh is leaving this node (annotation ${leavingAnnotation} of the agent's DaemonSet; take it away to call that off)`;

/**
 * Installs the plugin and keeps it installed and chained, whoever rewrites the configuration or clears a directory.
 * What cannot be done now is told, tried again and never ends the agent: captured pods need it.
 */
export async function install(options: InstallOptions): Promise<Installation> {
  const installer = new Installer(options);
  if (options.held !== true) await installer.run();
  return installer;
}

class Installer implements Installation {
  missing: string | undefined = 'the plugin is not installed yet';
  readonly #options: InstallOptions;
  readonly #files: PluginFiles;
  readonly #watches: FSWatcher[] = [];
  #installed: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #work = Promise.resolve();
  #closed = false;

  constructor(options: InstallOptions) {
    this.#options = options;
    const { binDir, binDirOnHost, pluginSource } = options;
    if (options.held === true) this.missing = leavingText;
    this.#files = { source: pluginSource, binDir, binDirOnHost, name: pluginType };
  }

  async run(): Promise<void> {
    await this.#check();
    if (!this.#closed) this.#again(checkMs);
  }

  async uninstall(): Promise<void> {
    this.close();
    await this.#work;
    // Out of the chain first: a chain must not name what is not there.
    await unchainAll(this.#options.confDir);
    await this.#unchainCached();
    await removePlugin(this.#files);
    // Of pods that were just being set up.
    await this.#unchainCached();
    this.missing = leavingText;
    this.#options.logger.info('the plugin is taken out of the CNI configuration and removed');
  }

  /** The node leaves the mesh whether or not that can be done. */
  async #unchainCached(): Promise<void> {
    const { cacheDir, logger } = this.#options;
    await unchainCached(cacheDir).catch((error: unknown) =>
      logger.warn(
        { dir: cacheDir, reason: causeChain(error) },
        'what the container runtime keeps of running pods may name the plugin still; with CRI-O those pods end only while it is installed',
      ),
    );
  }

  resume(): Promise<void> {
    this.#closed = false;
    this.#installed = undefined;
    return this.run();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const watched of this.#watches.splice(0)) watched.close();
  }

  #again(waitMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.run(), waitMs);
  }

  #check(): Promise<void> {
    this.#work = this.#work.then(() => (this.#closed ? undefined : this.#bringAbout()));
    return this.#work;
  }

  async #bringAbout(): Promise<void> {
    let missing: string | undefined;
    try {
      // Nothing is put into a directory that is somebody else's.
      missing = await directoryProblem(this.#options.confDir, this.#options);
      if (missing === undefined) {
        await this.#installFiles();
        missing = await this.#chain();
      }
      this.#watch();
    } catch (error) {
      missing = explain(error, this.#options);
    }
    if (missing !== undefined && missing !== this.missing)
      this.#options.logger.warn({ reason: missing }, 'new pods of this node cannot be captured');
    this.missing = missing;
  }

  async #installFiles(): Promise<void> {
    if (this.#installed !== undefined && (await fingerprint(this.#files)) === this.#installed)
      return;
    const { logger, binDir } = this.#options;
    if (this.#installed !== undefined)
      logger.warn({ dir: binDir }, 'somebody changed the plugin; installing it again');
    await installPlugin(this.#files);
    const installed = await fingerprint(this.#files);
    // What is not known is not what is there: the next look installs it again.
    this.#installed = installed ?? '';
    if (installed === undefined)
      throw new MeshError(
        'agent/plugin-removed',
        `somebody takes files of the plugin away from ${binDir}`,
      );
  }

  async #chain(): Promise<string | undefined> {
    const { confDir, agentSocket, excludeNamespaces, logger } = this.#options;
    const entry = { type: pluginType, agentSocket, excludeNamespaces };
    const state = await chainInto(confDir, entry, this.#options);
    if (!state.chained) return state.why;
    if (state.changed) logger.info({ file: state.file }, 'chained into the CNI configuration');
    return undefined;
  }

  /** A rewritten configuration is noticed at once; the timer is for file systems that tell nothing. */
  #watch(): void {
    if (this.#watches.length > 0) return;
    let watched: FSWatcher;
    try {
      watched = watch(this.#options.confDir, () => this.#again(settleMs));
    } catch {
      // Not there yet, or a kernel that is out of watches.
      return;
    }
    watched.on('error', () => {
      watched.close();
      this.#watches.splice(0);
    });
    this.#watches.push(watched);
  }
}

/** Why an agent with these directories could not have the runtime call its plugin; undefined where it could. Changes nothing. */
export async function installObstacle(options: Directories): Promise<string | undefined> {
  const { confDir, binDir } = options;
  try {
    for (const dir of [confDir, binDir]) await access(dir, constants.W_OK);
    return await chainObstacle(confDir, options);
  } catch (error) {
    return explain(error, options);
  }
}

const fixes = new Map([
  ['EROFS', 'it is on a read-only file system'],
  ['EACCES', 'the agent may not write there'],
  ['EPERM', 'the agent may not write there'],
  ['ENOSPC', 'its file system is full'],
]);

function explain(error: unknown, { binDir, confDir }: Directories): string {
  const fix = fixes.get(errnoCode(error) ?? '');
  if (fix === undefined) return causeChain(error);
  const path = (error as NodeJS.ErrnoException).path ?? '';
  const setting = path.startsWith(confDir)
    ? `${confDir} (CNI_CONF_DIR)`
    : `${binDir} (CNI_BIN_DIR)`;
  return `${setting} cannot be written: ${fix}; mount the host's CNI directory there, writable, or name the one that this host's runtime uses: ${causeChain(error)}`;
}

import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';

/** Type of our plugin in a chain, and name of its executable. */
export const pluginType = 'ambit-cni';

export interface PluginEntry {
  readonly type: string;
  readonly [key: string]: unknown;
}

export interface Conflist {
  readonly cniVersion?: string;
  readonly name: string;
  readonly plugins: readonly PluginEntry[];
  readonly [key: string]: unknown;
}

/** What our entry says, and the file that the chain stands for where that was a single plugin's. */
export type OwnEntry = PluginEntry & { readonly replaces?: string };

/** Reads a conflist, or a single plugin's configuration as a list of one; what is wrong with anything else. */
export function parseConflist(text: string): Result<Conflist, string> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return err(text.trim() === '' ? 'it is empty' : `it is no JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null) return err('it is no object');
  if (!('name' in value) || typeof value.name !== 'string') return err('it has no name');
  if ('plugins' in value) {
    if (!Array.isArray(value.plugins) || value.plugins.length === 0)
      return err('its plugins are no list with one or more entries');
    if (!value.plugins.every(isEntry)) return err('one of its plugins has no type');
    return ok(value as Conflist);
  }
  if (!isEntry(value)) return err('it has neither plugins nor a type');
  const { cniVersion, name, ...plugin } = value as PluginEntry & {
    readonly cniVersion?: string;
    readonly name: string;
  };
  return ok({ ...(cniVersion === undefined ? {} : { cniVersion }), name, plugins: [plugin] });
}

/**
 * Why no plugin can be chained here, if so: before 0.3.0 the runtime does not tell a plugin the result of those before
 * it, and runtimes take a missing version for 0.1.0 or 0.2.0.
 */
export function chainingProblem({ cniVersion }: Conflist): string | undefined {
  if (cniVersion === undefined)
    return 'it names no cniVersion, so nothing can be chained: give it 0.3.1 or newer';
  const [major = 0, minor = 0] = cniVersion.split('.').map(Number);
  return major > 0 || minor >= 3
    ? undefined
    : `its cniVersion is ${cniVersion}, and chaining begins with 0.3.0: give it a newer one`;
}

/** The same list with our plugin last, exactly once; everything else as it was. */
export function chained(conflist: Conflist, entry: OwnEntry): Conflist {
  const before = conflist.plugins.find(({ type }) => type === pluginType)?.['replaces'];
  const replaces = entry.replaces ?? (typeof before === 'string' ? before : undefined);
  const own = replaces === undefined ? entry : { ...entry, replaces };
  return { ...conflist, plugins: [...unchained(conflist).plugins, own] };
}

export function unchained(conflist: Conflist): Conflist {
  return { ...conflist, plugins: conflist.plugins.filter(({ type }) => type !== pluginType) };
}

/** What stood there before us: the list without our plugin, or the single plugin that we made a list of. */
export function restored(conflist: Conflist): { readonly file?: string; readonly content: object } {
  const own = conflist.plugins.find(({ type }) => type === pluginType);
  const rest = unchained(conflist);
  const [only, another] = rest.plugins;
  if (typeof own?.['replaces'] !== 'string' || only === undefined || another !== undefined)
    return { content: rest };
  const head = Object.entries(rest).filter(([name]) => name !== 'plugins');
  return { file: own['replaces'], content: { ...Object.fromEntries(head), ...only } };
}

export function isChained(conflist: Conflist): boolean {
  return conflist.plugins.some(({ type }) => type === pluginType);
}

function isEntry(value: unknown): value is PluginEntry {
  return (
    typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string'
  );
}

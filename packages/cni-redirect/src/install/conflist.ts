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

/** Reads a conflist, or a single plugin's configuration as a list of one; undefined for anything else. */
export function parseConflist(text: string): Conflist | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (
    typeof value !== 'object' ||
    value === null ||
    !('name' in value) ||
    typeof value.name !== 'string'
  )
    return undefined;
  if ('plugins' in value) {
    return Array.isArray(value.plugins) && value.plugins.every(isEntry) && value.plugins.length > 0
      ? (value as Conflist)
      : undefined;
  }
  if (!isEntry(value)) return undefined;
  const { cniVersion, name, ...plugin } = value as PluginEntry & {
    readonly cniVersion?: string;
    readonly name: string;
  };
  return {
    ...(cniVersion === undefined ? {} : { cniVersion }),
    name,
    plugins: [plugin],
  };
}

/** The same list with our plugin last, exactly once; everything else as it was. */
export function chained(conflist: Conflist, entry: PluginEntry): Conflist {
  return { ...conflist, plugins: [...unchained(conflist).plugins, entry] };
}

export function unchained(conflist: Conflist): Conflist {
  return { ...conflist, plugins: conflist.plugins.filter(({ type }) => type !== pluginType) };
}

function isEntry(value: unknown): value is PluginEntry {
  return (
    typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string'
  );
}

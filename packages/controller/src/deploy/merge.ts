/** By what the items of a list are told apart, as in Kubernetes; other lists are replaced. */
const mergeKeys: ReadonlyMap<string, readonly string[]> = new Map([
  ['containers', ['name']],
  ['initContainers', ['name']],
  ['volumes', ['name']],
  ['env', ['name']],
  ['imagePullSecrets', ['name']],
  ['volumeMounts', ['mountPath']],
  ['ports', ['containerPort', 'port']],
  ['topologySpreadConstraints', ['topologyKey']],
]);

type Fields = Readonly<Record<string, unknown>>;

/**
 * A strategic merge: mappings are merged, lists whose items have a key are merged by it, `null` takes away, and
 * `$patch: delete` or `replace` does what it says.
 */
export function merged(base: unknown, patch: unknown): unknown {
  if (!isFields(patch)) return patch;
  const isReplacing = patch['$patch'] === 'replace';
  const result = new Map(isFields(base) && !isReplacing ? Object.entries(base) : []);
  for (const [name, value] of Object.entries(patch)) {
    if (name === '$patch') continue;
    if (value === null) result.delete(name);
    else result.set(name, mergedField(name, result.get(name), value));
  }
  return Object.fromEntries(result);
}

function mergedField(name: string, before: unknown, value: unknown): unknown {
  if (!Array.isArray(value)) return merged(before, value);
  const items = value as unknown[];
  const key = mergeKeys
    .get(name)
    ?.find((one) => items.every((item) => idOf(item, one) !== undefined));
  if (key === undefined || !Array.isArray(before)) return items.filter((item) => !isDeleting(item));
  const result = [...(before as unknown[])];
  for (const item of items) {
    const at = result.findIndex((one) => idOf(one, key) === idOf(item, key));
    if (isDeleting(item)) {
      if (at >= 0) result.splice(at, 1);
    } else if (at < 0) result.push(merged({}, item));
    else result[at] = merged(result[at], item);
  }
  return result;
}

function isDeleting(item: unknown): boolean {
  return isFields(item) && item['$patch'] === 'delete';
}

function idOf(item: unknown, key: string): unknown {
  return isFields(item) && Object.hasOwn(item, key) ? item[key] : undefined;
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

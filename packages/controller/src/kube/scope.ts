import type { Sources } from '../collections/sources.ts';
import type { NamespaceRecord } from './decode/namespace.ts';
import type { NamespaceSelector } from '../translate/namespace-selector.ts';
import { isDiscovered } from '../translate/namespace-selector.ts';

/** Of which namespaces objects are read: `discoverySelectors` of the mesh's configuration. */
export interface Scope {
  /** The root namespace always is; a namespace that is not known yet is only where nothing is selected. */
  includes(namespace: string): boolean;
  /** Those that are in scope; undefined where all are. */
  namespaces(): ReadonlySet<string> | undefined;
  /** A namespace has come in or gone out. */
  onChange(listener: () => void): void;
}

/** Follows the labels of namespaces and the mesh's configuration. */
export function followScope(
  sources: Pick<Sources, 'namespaces' | 'meshConfig'>,
  rootNamespace: string,
): Scope {
  const listeners: (() => void)[] = [];
  let selectors: readonly NamespaceSelector[] = [];
  let selected = new Set<string>();
  const isSelected = ({ meta }: NamespaceRecord): boolean =>
    meta.name !== rootNamespace && isDiscovered(selectors, meta.labels);
  const tell = (): void => {
    for (const listener of listeners) listener();
  };
  sources.namespaces.onChange((name, record) => {
    if (selectors.length === 0) return;
    const was = selected.has(name);
    const is = record !== undefined && isSelected(record);
    if (was === is) return;
    if (is) selected.add(name);
    else selected.delete(name);
    tell();
  });
  sources.meshConfig.onChange((_name, config) => {
    const before = selectors;
    selectors = config?.discoverySelectors ?? [];
    if (before === selectors || (before.length === 0 && selectors.length === 0)) return;
    selected = new Set();
    if (selectors.length > 0) {
      for (const [name, record] of sources.namespaces.entries())
        if (isSelected(record)) selected.add(name);
    }
    tell();
  });
  return {
    includes: (namespace) =>
      selectors.length === 0 || namespace === rootNamespace || selected.has(namespace),
    namespaces: () => (selectors.length === 0 ? undefined : new Set([rootNamespace, ...selected])),
    onChange: (listener) => {
      listeners.push(listener);
    },
  };
}

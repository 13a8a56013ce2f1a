import type { KubeObject } from './object.ts';
import { objectAt, stringAt } from './object.ts';

/** Holds a CustomResourceDefinition until its objects are gone. */
export const cleanupFinalizer = 'customresourcecleanup.apiextensions.k8s.io';

/** Fills in what the API decides of a CustomResourceDefinition. */
export function prepareCrd(crd: KubeObject, before: KubeObject | undefined): void {
  const spec = objectAt(crd, 'spec');
  const names = objectAt(spec, 'names');
  const kind = stringAt(names, 'kind') ?? '';
  names['singular'] ??= kind.toLowerCase();
  names['listKind'] ??= `${kind}List`;
  spec['conversion'] ??= { strategy: 'None' };
  if (before === undefined) {
    crd.metadata.finalizers = [...(crd.metadata.finalizers ?? []), cleanupFinalizer];
  }
}

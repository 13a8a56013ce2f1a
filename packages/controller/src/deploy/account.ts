import { field, text } from '../kube/decode/fields.ts';
import type { Standing } from './apply.ts';
import { merged } from './merge.ts';
import type { Deployed } from './objects.ts';

/** On a Deployment: the uid of its ServiceAccount. On its pods: the same, once that is another than it was. */
export const accountAnnotation = 'ambit.dev/service-account';

/**
 * Pure: the Deployment, told under which ServiceAccount its pods are. The tokens of pods that were started under one that
 * is gone are good for nothing, and the kubelet brings others hours later: where the account is another, the pods are
 * replaced. Where it never was, they bear no word of it, lest each upgrade replace them all.
 */
export function underAccount(
  standing: Standing,
  account: { readonly uid: string; readonly isNew: boolean },
): Standing {
  const { wanted, found } = standing;
  if (wanted.object.kind !== 'Deployment' || account.uid === '') return standing;
  const before = text(field(found, 'metadata', 'annotations', accountAnnotation));
  const ofPods = text(
    field(found, 'spec', 'template', 'metadata', 'annotations', accountAnnotation),
  );
  const isAnother = before === '' ? found !== undefined && account.isNew : before !== account.uid;
  const told = isAnother ? account.uid : ofPods;
  const object = merged(wanted.object, {
    metadata: { annotations: { [accountAnnotation]: account.uid } },
    ...(told === ''
      ? {}
      : { spec: { template: { metadata: { annotations: { [accountAnnotation]: told } } } } }),
  }) as Deployed['object'];
  return { wanted: { ...wanted, object }, found };
}

/** Which control plane one is. */
export interface RevisionFacts {
  /** `default` where absent. */
  readonly revision?: string;
  /** The revision to which belongs what bears no label; `default` where absent. */
  readonly defaultRevision?: string;
}

export const revisionLabel = 'istio.io/rev';
const defaultName = 'default';

/** Pure: whether a value of `istio.io/rev`, empty for none, means this control plane. */
export function isOurs(label: string, facts: RevisionFacts): boolean {
  const { revision = defaultName } = facts;
  return label === '' || label === defaultName ? isDefault(facts) : label === revision;
}

/** Pure: whether this control plane is the one for what bears no label. */
export function isDefault({
  revision = defaultName,
  defaultRevision = defaultName,
}: RevisionFacts): boolean {
  return revision === defaultRevision;
}

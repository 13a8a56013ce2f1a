import type { ResourceCall } from './context.ts';
import type { JsonObject, KubeObject } from './object.ts';
import { isObject, listAt, numberAt, objectAt, stringAt } from './object.ts';
import { labelSelectorOf } from './selectors.ts';

/** A webhook of a ValidatingWebhookConfiguration that looks at a write. */
export interface ValidatingWebhook {
  readonly name: string;
  readonly clientConfig: JsonObject;
  readonly failsClosed: boolean;
  readonly timeoutMs: number;
  /** Its `sideEffects` let it be asked about writes that only rehearse. */
  readonly forDryRun: boolean;
}

export interface Write {
  readonly operation: 'CREATE' | 'UPDATE';
  readonly before: KubeObject | undefined;
  readonly after: KubeObject;
  /** Labels of the object's namespace; undefined for what is in none. */
  readonly namespaceLabels: Readonly<Record<string, string>> | undefined;
}

const defaultTimeoutS = 10;

/** Pure: the webhooks whose rules and selectors fit, in the order of their names. `matchConditions` are not read. */
export function matchingWebhooks(
  configurations: readonly KubeObject[],
  { route, definition }: Pick<ResourceCall, 'route' | 'definition'>,
  write: Write,
): readonly ValidatingWebhook[] {
  const { key, version, subresource } = route;
  const asked = {
    operations: write.operation,
    apiGroups: key.group,
    apiVersions: version,
    resources: subresource === undefined ? key.resource : `${key.resource}/${subresource}`,
    scope: definition.namespaced ? 'Namespaced' : 'Cluster',
  };
  return [...configurations]
    .sort((left, right) => (left.metadata.name < right.metadata.name ? -1 : 1))
    .flatMap((configuration) => listAt(configuration, 'webhooks'))
    .filter((webhook) => listAt(webhook, 'rules').some((rule) => fits(rule, asked)))
    .filter((webhook) => isSelected(webhook, write))
    .map((webhook) => ({
      name: stringAt(webhook, 'name') ?? '',
      clientConfig: objectAt(webhook, 'clientConfig'),
      failsClosed: stringAt(webhook, 'failurePolicy') !== 'Ignore',
      timeoutMs: (numberAt(webhook, 'timeoutSeconds') ?? defaultTimeoutS) * 1000,
      forDryRun: ['None', 'NoneOnDryRun'].includes(stringAt(webhook, 'sideEffects') ?? ''),
    }));
}

function fits(
  rule: unknown,
  asked: Readonly<
    Record<'operations' | 'apiGroups' | 'apiVersions' | 'resources' | 'scope', string>
  >,
): boolean {
  const scope = stringAt(rule, 'scope') ?? '*';
  const named = (['operations', 'apiGroups', 'apiVersions', 'resources'] as const).every((name) =>
    listAt(rule, name).some((one) => one === asked[name] || isStar(one, asked[name])),
  );
  return named && (scope === '*' || scope === asked.scope);
}

/** `*` is every resource, but no subresource; `pods/*` is every subresource of pods. */
function isStar(pattern: unknown, value: string): boolean {
  if (pattern === '*') return !value.includes('/');
  if (pattern === '*/*') return true;
  const [resource, subresource] = value.split('/');
  return (
    pattern === `${resource ?? ''}/*` ||
    (subresource !== undefined && pattern === `*/${subresource}`)
  );
}

function isSelected(webhook: unknown, { before, after, namespaceLabels }: Write): boolean {
  if (namespaceLabels !== undefined && !selects(webhook, 'namespaceSelector', namespaceLabels))
    return false;
  const objects = before === undefined ? [after] : [before, after];
  return objects.some(({ metadata }) => selects(webhook, 'objectSelector', metadata.labels ?? {}));
}

function selects(
  webhook: unknown,
  name: 'namespaceSelector' | 'objectSelector',
  labels: Readonly<Record<string, string>>,
): boolean {
  const selector = isObject(webhook) ? webhook[name] : undefined;
  return selector === undefined || labelSelectorOf(selector)(labels);
}

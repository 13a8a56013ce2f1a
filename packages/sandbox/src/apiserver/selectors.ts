import { badRequest } from './errors.ts';
import type { KubeObject } from './object.ts';
import { isObject, valueAt } from './object.ts';

export type Selector = (object: KubeObject) => boolean;

interface Requirement {
  readonly key: string;
  readonly operator: 'in' | 'notin' | 'exists' | 'absent' | 'gt' | 'lt';
  readonly values: readonly string[];
}

const keyPattern = /^([a-z0-9A-Z.-]+\/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;

/**
 * Parses a label selector in the API's query form: `a=b,c!=d,e in (x,y),!f,g`.
 * @throws ApiError BadRequest that quotes the part it cannot read
 */
export function parseLabelSelector(text: string): Selector {
  const requirements = splitOutsideBrackets(text)
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map(parseRequirement);
  return ({ metadata }) =>
    requirements.every((requirement) => holds(requirement, metadata.labels ?? {}));
}

/** The selector of a spec (`matchLabels`, `matchExpressions`); one without requirements selects all. */
export function labelSelectorOf(
  selector: unknown,
): (labels: Readonly<Record<string, string>>) => boolean {
  const requirements: Requirement[] = [];
  const matchLabels = valueAt(selector, 'matchLabels');
  if (isObject(matchLabels)) {
    for (const [key, value] of Object.entries(matchLabels)) {
      requirements.push({ key, operator: 'in', values: [String(value)] });
    }
  }
  const expressions = valueAt(selector, 'matchExpressions');
  for (const expression of Array.isArray(expressions) ? expressions : []) {
    const values = valueAt(expression, 'values');
    requirements.push({
      key: String(valueAt(expression, 'key')),
      operator: expressionOperator(valueAt(expression, 'operator')),
      values: Array.isArray(values) ? values.map(String) : [],
    });
  }
  return (labels) => requirements.every((requirement) => holds(requirement, labels));
}

function expressionOperator(operator: unknown): Requirement['operator'] {
  switch (operator) {
    case 'In':
      return 'in';
    case 'NotIn':
      return 'notin';
    case 'Exists':
      return 'exists';
    case 'DoesNotExist':
      return 'absent';
    default:
      throw badRequest(`${JSON.stringify(operator)} is not a label selector operator`);
  }
}

function splitOutsideBrackets(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let index = 0; index < text.length; index++) {
    const char = text[index];
    if (char === '(') depth++;
    else if (char === ')') depth--;
    else if (char === ',' && depth === 0) {
      parts.push(text.slice(start, index));
      start = index + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

function parseRequirement(part: string): Requirement {
  const set = /^(\S+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(part);
  if (set !== null) {
    const values = (set[3] ?? '').split(',').map((value) => value.trim());
    return requirement(set[1] ?? '', set[2] === 'in' ? 'in' : 'notin', values, part);
  }
  if (part.startsWith('!')) return requirement(part.slice(1).trim(), 'absent', [], part);
  const compared = /^([^=!<>\s]+)\s*(==|=|!=|>|<)\s*([^=!<>\s]*)$/.exec(part);
  if (compared === null) return requirement(part, 'exists', [], part);
  const operators = { '==': 'in', '=': 'in', '!=': 'notin', '>': 'gt', '<': 'lt' } as const;
  return requirement(
    compared[1] ?? '',
    operators[compared[2] as keyof typeof operators],
    [compared[3] ?? ''],
    part,
  );
}

function requirement(
  key: string,
  operator: Requirement['operator'],
  values: readonly string[],
  part: string,
): Requirement {
  if (!keyPattern.test(key))
    throw badRequest(`unable to parse requirement: ${JSON.stringify(part)}`);
  return { key, operator, values };
}

function holds(
  { key, operator, values }: Requirement,
  labels: Readonly<Record<string, string>>,
): boolean {
  const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case 'in':
      return value !== undefined && values.includes(value);
    case 'notin':
      return value === undefined || !values.includes(value);
    case 'exists':
      return value !== undefined;
    case 'absent':
      return value === undefined;
    case 'gt':
      return value !== undefined && Number(value) > Number(values[0]);
    case 'lt':
      return value !== undefined && Number(value) < Number(values[0]);
  }
}

const commonFields = ['metadata.name', 'metadata.namespace'];

const fieldsByResource = new Map<string, readonly string[]>([
  [
    'pods',
    [
      'spec.nodeName',
      'spec.restartPolicy',
      'spec.schedulerName',
      'spec.serviceAccountName',
      'spec.hostNetwork',
      'status.phase',
      'status.podIP',
      'status.nominatedNodeName',
    ],
  ],
  ['nodes', ['spec.unschedulable']],
  ['namespaces', ['status.phase', 'name']],
  ['secrets', ['type']],
  ['services', ['spec.clusterIP', 'spec.type']],
  ['replicasets.apps', ['status.replicas']],
  ['jobs.batch', ['status.successful']],
  [
    'events',
    [
      'involvedObject.kind',
      'involvedObject.namespace',
      'involvedObject.name',
      'involvedObject.uid',
      'involvedObject.apiVersion',
      'involvedObject.resourceVersion',
      'involvedObject.fieldPath',
      'reason',
      'reportingComponent',
      'source',
      'type',
    ],
  ],
]);

/**
 * Parses a field selector (`a=b,c!=d`) for one resource.
 * @param resource as `resourceName` gives it
 * @throws ApiError BadRequest for a field that this resource cannot be selected by
 */
export function parseFieldSelector(
  text: string,
  resource: string,
  more: readonly string[] = [],
): Selector {
  const known = [...commonFields, ...(fieldsByResource.get(resource) ?? []), ...more];
  const terms = text
    .split(',')
    .filter((part) => part.trim() !== '')
    .map((part) => {
      const match = /^\s*([^=!]+?)\s*(==|=|!=)\s*(.*?)\s*$/.exec(part);
      if (match === null)
        throw badRequest(`invalid field selector ${JSON.stringify(part)}: write field=value`);
      const [, field = '', operator, value = ''] = match;
      if (!known.includes(field)) throw badRequest(`field label not supported: ${field}`);
      return { path: field.split('.'), equal: operator !== '!=', value };
    });
  return (object) =>
    terms.every(({ path, equal, value }) => (fieldText(object, path) === value) === equal);
}

function fieldText(object: KubeObject, path: readonly string[]): string {
  const value = valueAt(object, ...path);
  if (value === undefined || value === null) return path.at(-1) === 'hostNetwork' ? 'false' : '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

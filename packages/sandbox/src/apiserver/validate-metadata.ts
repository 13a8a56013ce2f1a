import type { FieldProblem } from './errors.ts';
import { invalidValue, required } from './errors.ts';
import type { KubeObject, ResourceKey } from './object.ts';
import { isObject } from './object.ts';

const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const labelKey = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const labelValue = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
const maxAnnotationBytes = 256 * 1024;

const labelNamed = new Set(['namespaces', 'services']);
const freelyNamed = new Set(['rbac.authorization.k8s.io']);

/** The rules that hold for the metadata of every object. */
export function validateMetadata(object: KubeObject, key: ResourceKey): FieldProblem[] {
  const { name, labels, annotations, finalizers, ownerReferences } = object.metadata;
  return [
    ...nameProblems(name, key),
    ...mapProblems('metadata.labels', labels, (field, value) =>
      labelValue.test(value)
        ? []
        : [
            invalidValue(
              field,
              value,
              "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', at most 63",
            ),
          ],
    ),
    ...mapProblems('metadata.annotations', annotations, () => []),
    ...sizeProblems(annotations),
    ...(finalizers ?? [])
      .filter((one) => typeof one !== 'string' || !labelKey.test(one))
      .map((one) => invalidValue('metadata.finalizers', one, 'name is not valid')),
    ...(ownerReferences ?? []).flatMap((owner, index) =>
      (['apiVersion', 'kind', 'name', 'uid'] as const)
        .filter((field) => typeof owner[field] !== 'string' || owner[field] === '')
        .map((field) => required(`metadata.ownerReferences[${index}].${field}`)),
    ),
  ];
}

function nameProblems(name: string, key: ResourceKey): FieldProblem[] {
  if (freelyNamed.has(key.group)) {
    const bad = name === '.' || name === '..' || /[/%]/.test(name);
    return bad ? [invalidValue('metadata.name', name, "may not be '.', '..' or contain '/' or '%'")] : [];
  }
  if (labelNamed.has(key.resource) && key.group === '') {
    return name.length <= 63 && label.test(name)
      ? []
      : [
          invalidValue(
            'metadata.name',
            name,
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', at most 63",
          ),
        ];
  }
  return name.length <= 253 && subdomain.test(name)
    ? []
    : [
        invalidValue(
          'metadata.name',
          name,
          "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', at most 253",
        ),
      ];
}

function mapProblems(
  field: string,
  map: unknown,
  check: (field: string, value: string) => FieldProblem[],
): FieldProblem[] {
  if (map === undefined || map === null) return [];
  if (!isObject(map)) return [invalidValue(field, map, 'must be an object')];
  return Object.entries(map).flatMap(([key, value]) => {
    if (!labelKey.test(key)) {
      return [invalidValue(field, key, "name part must consist of alphanumeric characters, '-', '_' or '.'")];
    }
    return typeof value === 'string' ? check(field, value) : [invalidValue(field, value, 'must be a string')];
  });
}

function sizeProblems(annotations: Record<string, string> | undefined): FieldProblem[] {
  const bytes = Object.entries(annotations ?? {}).reduce((sum, [key, value]) => sum + key.length + String(value).length, 0);
  if (bytes <= maxAnnotationBytes) return [];
  return [
    {
      field: 'metadata.annotations',
      reason: 'FieldValueTooLong',
      message: `Too long: may not be more than ${maxAnnotationBytes} bytes`,
    },
  ];
}

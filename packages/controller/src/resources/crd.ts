import type { TSchema } from 'typebox';
import { Errors } from 'typebox/value';

export interface PrinterColumn {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date' | 'boolean';
  readonly jsonPath: string;
  readonly description: string;
}

/** A rule in CEL; the message names the fields and the fix. */
export interface ValidationRule {
  readonly rule: string;
  readonly message: string;
}

/** Of policies that name workloads or what they pass through. */
export const oneTarget: ValidationRule = {
  rule: '(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1',
  message: 'only one of selector, targetRef and targetRefs may be set; remove the others',
};

/** One kind of resource: everything about it, its CustomResourceDefinition too, follows from this. */
export interface ResourceDefinition {
  readonly group: string;
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  /** Newest first; the first is the stored one. All share one schema. */
  readonly versions: readonly string[];
  readonly spec: TSchema;
  readonly columns: readonly PrinterColumn[];
  /** What no value of `spec` may break, for the API server to check: CEL, `self` is the spec. */
  readonly rules?: readonly ValidationRule[];
  readonly scope?: 'Cluster';
  /** Fields that are known and not done, with why and what to do: paths below `spec`, `[]` for any item. */
  readonly refused?: ReadonlyMap<string, string>;
  /** Others of that kind, which compiling tells: they close a rule and leave the others. Paths as in `refused`. */
  readonly refusedInPart?: ReadonlyMap<string, string>;
  /** What is to be known of fields that are done, for the page of compatibility. Paths as there. */
  readonly notes?: ReadonlyMap<string, string>;
}

/** A CustomResourceDefinition of apiextensions.k8s.io/v1, ready to be created. */
export interface CustomResourceDefinition {
  readonly apiVersion: 'apiextensions.k8s.io/v1';
  readonly kind: 'CustomResourceDefinition';
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly group: string;
    readonly scope: 'Namespaced' | 'Cluster';
    readonly names: {
      readonly kind: string;
      readonly listKind: string;
      readonly plural: string;
      readonly singular: string;
      readonly shortNames: readonly string[];
      readonly categories: readonly string[];
    };
    readonly versions: readonly CrdVersion[];
  };
}

export interface CrdVersion {
  readonly name: string;
  readonly served: boolean;
  readonly storage: boolean;
  readonly additionalPrinterColumns: readonly PrinterColumn[];
  readonly schema: { readonly openAPIV3Schema: JsonSchema };
  readonly subresources: { readonly status: Readonly<Record<string, never>> };
}

/** The part of OpenAPI v3 that structural schemas allow. */
export interface JsonSchema {
  readonly type?: string;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly additionalProperties?: JsonSchema;
  readonly enum?: readonly string[];
  readonly maxItems?: number;
  readonly maxLength?: number;
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean;
  readonly 'x-kubernetes-validations'?: readonly ValidationRule[];
}

const ageColumn: PrinterColumn = {
  name: 'Age',
  type: 'date',
  jsonPath: '.metadata.creationTimestamp',
  description: 'Time since creation.',
};

export function crdOf(resource: ResourceDefinition): CustomResourceDefinition {
  const schema: JsonSchema = {
    type: 'object',
    properties: {
      spec: {
        ...structural(resource.spec),
        ...(resource.rules === undefined ? {} : { 'x-kubernetes-validations': resource.rules }),
      },
      status: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
    },
  };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${resource.plural}.${resource.group}` },
    spec: {
      group: resource.group,
      scope: resource.scope ?? 'Namespaced',
      names: {
        kind: resource.kind,
        listKind: `${resource.kind}List`,
        plural: resource.plural,
        singular: resource.singular,
        shortNames: resource.shortNames,
        categories: resource.categories,
      },
      versions: resource.versions.map((name, index) => ({
        name,
        served: true,
        storage: index === 0,
        additionalPrinterColumns: [...resource.columns, ageColumn],
        schema: { openAPIV3Schema: schema },
        subresources: { status: {} },
      })),
    },
  };
}

/** Of JSON Schema, as it stands there. */
const keywords = new Set(['description', 'enum', 'maxItems', 'maxLength', 'required']);

/** What the API server has to expect more values of has no rules in CEL: it reckons with all of them, and refuses. */
const maxRuled = 1_000_000;

/**
 * TypeBox writes JSON Schema; a structural schema knows no patternProperties and no closed objects.
 * @param times how many of it there may be in a resource
 */
function structural(schema: TSchema, times = 1): JsonSchema {
  const from = schema as JsonSchema & { patternProperties?: Record<string, JsonSchema> };
  const values = Object.values(from.patternProperties ?? {})[0];
  // Of what a schema says nothing, everything is kept.
  if (from.type === undefined && from.enum === undefined) {
    return { 'x-kubernetes-preserve-unknown-fields': true };
  }
  const kept = Object.entries(from).filter(([key]) => keywords.has(key));
  const rules = from['x-kubernetes-validations'];
  return {
    type: from.type ?? 'string',
    ...Object.fromEntries(kept),
    ...(rules === undefined || times > maxRuled ? {} : { 'x-kubernetes-validations': rules }),
    ...(from.items === undefined
      ? {}
      : { items: structural(from.items, times * (from.maxItems ?? maxRuled)) }),
    ...(values === undefined ? {} : { additionalProperties: structural(values, times * maxRuled) }),
    ...(from.properties === undefined
      ? {}
      : {
          properties: Object.fromEntries(
            Object.entries(from.properties).map(([name, value]) => [
              name,
              structural(value, times),
            ]),
          ),
        }),
  };
}

export interface SchemaProblem {
  /** Path below the resource, for example `spec.rules[0].from`. */
  readonly field: string;
  readonly message: string;
}

/** Every way in which a spec breaks its schema, the first 20 at most; an absent spec is an empty one. */
export function schemaProblems(resource: ResourceDefinition, spec: unknown): SchemaProblem[] {
  return problemsBelow('spec', resource.spec, spec ?? {});
}

/** The same for any value; `at` is where it stands. */
export function problemsBelow(at: string, schema: TSchema, value: unknown): SchemaProblem[] {
  const problems = new Map<string, SchemaProblem>();
  for (const error of Errors(schema, value)) {
    // An unknown field is told twice, by its object and by itself; the second names it.
    if (error.keyword === 'additionalProperties') continue;
    const path = `${at}${fieldPath(error.instancePath)}`;
    if (problems.has(path)) continue;
    problems.set(path, { field: path, message: explain(error) });
    if (problems.size >= 20) break;
  }
  return [...problems.values()];
}

/** Where a spec uses fields that are known and not done. */
export function refusedFields(resource: ResourceDefinition, spec: unknown): SchemaProblem[] {
  const problems: SchemaProblem[] = [];
  for (const [path, why] of resource.refused ?? []) {
    for (const at of placesOf(spec, path.split('.'), 'spec'))
      problems.push({ field: at, message: why });
  }
  return problems;
}

function placesOf(value: unknown, path: readonly string[], at: string): readonly string[] {
  const [step, ...rest] = path;
  if (step === undefined) return value === undefined ? [] : [at];
  if (typeof value !== 'object' || value === null) return [];
  const name = step.endsWith('[]') ? step.slice(0, -2) : step;
  const inner: unknown = Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
  if (name === step) return placesOf(inner, rest, `${at}.${name}`);
  const items: readonly unknown[] = Array.isArray(inner) ? (inner as unknown[]) : [];
  return items.flatMap((item, index) => placesOf(item, rest, `${at}.${name}[${index}]`));
}

function explain(error: { keyword: string; message: string; params: object }): string {
  if (error.keyword === 'boolean') return 'there is no such field; remove it';
  if ('allowedValues' in error.params && Array.isArray(error.params.allowedValues)) {
    return `must be one of ${error.params.allowedValues.join(', ')}`;
  }
  return error.message;
}

function fieldPath(pointer: string): string {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~').slice(0, 100))
    .map((part) => (/^\d+$/.test(part) ? `[${part}]` : `.${part}`))
    .join('');
}

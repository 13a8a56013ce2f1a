import type { JsonSchema, ResourceDefinition } from './crd.ts';
import { crdOf } from './crd.ts';
import { resources } from './index.ts';

/** The page that tells, field by field, what is done of each resource; made from what compiles them. */
export function compatibilityPage(): string {
  return [
    '# Compatibility',
    '',
    'Every field of the resources that Ambit reads, made from the schemas that decode them (`npm run compatibility`).',
    'A field that is not done is refused with a condition on the status of the object that says why; nothing is dropped in silence.',
    '',
    ...resources.flatMap(section),
  ].join('\n');
}

function section(resource: ResourceDefinition): string[] {
  const [version] = crdOf(resource).spec.versions;
  const spec = version?.schema.openAPIV3Schema.properties?.['spec'];
  const refused = new Map([...(resource.refused ?? []), ...(resource.refusedInPart ?? [])]);
  const notes = resource.notes ?? new Map<string, string>();
  const rows = spec === undefined ? [] : fields(spec, '').map((path) => row(path, refused, notes));
  return [
    `## ${resource.kind}`,
    '',
    `\`${resource.group}\`, versions ${resource.versions.map((one) => `\`${one}\``).join(', ')}.`,
    '',
    '| Field | Done |',
    '| --- | --- |',
    ...rows,
    '',
  ];
}

function row(
  path: string,
  refused: ReadonlyMap<string, string>,
  notes: ReadonlyMap<string, string>,
): string {
  const why = [...refused].find(([one]) => isWithin(path, one))?.[1];
  const note = notes.get(path);
  const done = note === undefined ? 'yes' : `yes: ${note}`;
  return `| \`${path}\` | ${(why === undefined ? done : `no: ${why}`).replaceAll('|', '\\|')} |`;
}

/** Whether a path is one that is refused, an item of it, or lies below. */
function isWithin(path: string, refused: string): boolean {
  return path.startsWith(refused) && /^(?:\[\])?(?:\.|$)/.test(path.slice(refused.length));
}

function fields({ properties = {} }: JsonSchema, prefix: string): string[] {
  return Object.entries(properties).flatMap(([name, schema]) => {
    const isList = schema.items !== undefined;
    const inner = schema.items ?? schema.additionalProperties ?? schema;
    const path = `${prefix}${name}${isList ? '[]' : ''}`;
    const below = fields(inner, `${path}.`);
    return below.length === 0 ? [path] : below;
  });
}

// Emits ../builtin-data.ts: the schemas of Kubernetes' own kinds, from the models of @kubernetes/client-node (property maps,
// descriptions, optional members) and facts.json (list types, merge keys, atomic types, quantities, defaults), which says
// what the models leave out. Run it with plain `node generate.mjs` after an update of client-node.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { format } from 'prettier';

const here = dirname(fileURLToPath(import.meta.url));
const entry = fileURLToPath(import.meta.resolve('@kubernetes/client-node'));
const models = join(dirname(entry), 'gen', 'models');
const facts = JSON.parse(readFileSync(join(here, 'facts.json'), 'utf8'));

// Groups in the order in which a shared model gets its home: what core reaches is core's.
const groups = [
  [
    'meta',
    'v1',
    'Status DeleteOptions LabelSelector Condition OwnerReference ObjectMeta ManagedFieldsEntry ListMeta StatusDetails StatusCause Preconditions LabelSelectorRequirement APIResource APIResourceList APIGroup FieldSelectorRequirement',
  ],
  [
    'core',
    'v1',
    'Pod Service ConfigMap Secret Namespace Node ServiceAccount Endpoints CoreV1Event PersistentVolume PersistentVolumeClaim ReplicationController LimitRange ResourceQuota PodTemplate Binding',
  ],
  ['apps', 'v1', 'Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision'],
  ['discovery.k8s.io', 'v1', 'EndpointSlice'],
  ['coordination.k8s.io', 'v1', 'Lease'],
  ['rbac.authorization.k8s.io', 'v1', 'Role ClusterRole RoleBinding ClusterRoleBinding'],
  ['networking.k8s.io', 'v1', 'Ingress IngressClass NetworkPolicy'],
  ['policy', 'v1', 'PodDisruptionBudget Eviction'],
  ['batch', 'v1', 'Job CronJob'],
  ['autoscaling', 'v1', 'Scale HorizontalPodAutoscaler'],
  ['autoscaling', 'v2', 'HorizontalPodAutoscaler'],
  ['events.k8s.io', 'v1', 'EventsV1Event'],
  ['apiextensions.k8s.io', 'v1', 'CustomResourceDefinition'],
  [
    'admissionregistration.k8s.io',
    'v1',
    'MutatingWebhookConfiguration ValidatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding',
  ],
  ['authentication.k8s.io', 'v1', 'AuthenticationV1TokenRequest TokenReview SelfSubjectReview'],
  [
    'authorization.k8s.io',
    'v1',
    'SubjectAccessReview SelfSubjectAccessReview LocalSubjectAccessReview SelfSubjectRulesReview',
  ],
  ['scheduling.k8s.io', 'v1', 'PriorityClass'],
  ['storage.k8s.io', 'v1', 'StorageClass'],
];

const known = new Set(
  readdirSync(models)
    .filter((name) => name.endsWith('.d.ts'))
    .map((name) => name.slice(0, -5)),
);
const home = new Map();
const definitions = {};
const kinds = {};
const special = {
  quantity: 'io.k8s.apimachinery.pkg.api.resource.Quantity',
  intOrString: 'io.k8s.apimachinery.pkg.util.intstr.IntOrString',
  time: 'io.k8s.apimachinery.pkg.apis.meta.v1.Time',
  microTime: 'io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime',
};
definitions[special.quantity] = {
  description:
    'A fixed-point number with a suffix: 100m, 1.5, 2Gi, 1e3. Written as a string, or as a bare number.',
  type: 'string',
  format: 'quantity',
  'x-kubernetes-int-or-string': true,
};
definitions[special.intOrString] = {
  description: 'A 32-bit whole number or a string.',
  format: 'int-or-string',
  'x-kubernetes-int-or-string': true,
};
definitions[special.time] = {
  description: 'A point in time, RFC 3339.',
  type: 'string',
  format: 'date-time',
};
definitions[special.microTime] = {
  description: 'A point in time with microseconds, RFC 3339.',
  type: 'string',
  format: 'date-time',
};

const bare = (model) =>
  model.replace(
    /^(?:Core|Events|Discovery|Rbac|Admissionregistration|Apiextensions|Authentication)?V[12]/,
    '',
  );
const prefixOf = (group, version) => {
  if (group === 'meta') return `io.k8s.apimachinery.pkg.apis.meta.${version}`;
  if (group === 'apiextensions.k8s.io')
    return `io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.${version}`;
  return `io.k8s.api.${group.split('.')[0]}.${version}`;
};
const factKey = (name) => name.split('.').slice(-3).join('.');

function plainType(text, format) {
  if (text === 'string') return format === 'byte' ? { type: 'string', format } : { type: 'string' };
  if (text === 'boolean') return { type: 'boolean' };
  if (text === 'number') {
    return format === 'double' || format === 'float'
      ? { type: 'number', format }
      : { type: 'integer', format: format || 'int32' };
  }
  if (text === 'any') return { 'x-kubernetes-preserve-unknown-fields': true };
  if (text === 'Date') return { $ref: special.time };
  if (text === 'V1MicroTime') return { $ref: special.microTime };
  if (text === 'IntOrString') return { $ref: special.intOrString };
  return undefined;
}

function schemaOf(text, format, owner) {
  const plain = plainType(text, format);
  if (plain !== undefined) return plain;
  const list = /^Array<(.*)>$/.exec(text);
  if (list !== null) return { type: 'array', items: schemaOf(list[1], format, owner) };
  const map = /^\{ \[key: string\]: (.*); \}$/.exec(text);
  if (map !== null)
    return { type: 'object', additionalProperties: schemaOf(map[1], format, owner) };
  if (!known.has(text)) throw new Error(`${text} is no model`);
  return { $ref: nameOf(text, owner) };
}

const queue = [];
function nameOf(model, owner) {
  const found = home.get(model);
  if (found !== undefined) return found;
  const name = `${prefixOf(...owner)}.${bare(model)}`;
  home.set(model, name);
  queue.push([model, owner]);
  return name;
}

const unescape = (text) => text.replaceAll(/\\(.)/g, '$1');

function docsOf(model) {
  const text = readFileSync(join(models, `${model}.d.ts`), 'utf8');
  const members = new Map();
  for (const match of text.matchAll(
    /(?:\/\*\*\n\s+\* ([^\n]*)\n\s+\*\/\n\s+)?'([^'\n]+)'(\??): /g,
  )) {
    members.set(match[2], { description: unescape(match[1] ?? ''), required: match[3] === '' });
  }
  const description = /\/\*\*\n\* ([^\n]*)\n\*\/\nexport declare class/.exec(text)?.[1] ?? '';
  return { description: unescape(description), members };
}

function asQuantity(schema) {
  return schema.type === 'object'
    ? { ...schema, additionalProperties: { $ref: special.quantity } }
    : { $ref: special.quantity };
}

function withFacts(schema, key) {
  const out = facts.quantities.includes(key) ? asQuantity(schema) : schema;
  const fact = facts.lists[key];
  if (fact?.keys !== undefined)
    Object.assign(out, {
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': fact.keys,
    });
  else if (fact?.type !== undefined) out['x-kubernetes-list-type'] = fact.type;
  else if (out.type === 'array') out['x-kubernetes-list-type'] = 'atomic';
  if (fact?.patch !== undefined) out['x-kubernetes-patch-strategy'] = fact.patch;
  if (fact?.patchKey !== undefined) out['x-kubernetes-patch-merge-key'] = fact.patchKey;
  if (facts.atomicFields.includes(key)) out['x-kubernetes-map-type'] = 'atomic';
  if (facts.defaults[key] !== undefined) out.default = facts.defaults[key];
  return out;
}

async function define(model, owner) {
  const name = home.get(model);
  const { description, members } = docsOf(model);
  const type = (await import(pathToFileURL(join(models, `${model}.js`)).href))[model];
  const key = factKey(name);
  const properties = {};
  const required = [];
  for (const attribute of type.getAttributeTypeMap()) {
    const member = members.get(attribute.name);
    if (member === undefined) throw new Error(`${model}.${attribute.name} has no declaration`);
    const schema = withFacts(
      schemaOf(attribute.type, attribute.format, owner),
      `${key}.${attribute.baseName}`,
    );
    properties[attribute.baseName] =
      member.description === '' ? schema : { description: member.description, ...schema };
    if (member.required) required.push(attribute.baseName);
  }
  const definition = { description, type: 'object' };
  if (required.length > 0) definition.required = required;
  definition.properties = properties;
  if (facts.atomicTypes.includes(key)) definition['x-kubernetes-map-type'] = 'atomic';
  definitions[name] = definition;
}

for (const [group, version, list] of groups) {
  for (const word of list.split(' ')) {
    const model = known.has(word) ? word : `${version.toUpperCase()}${word}`;
    if (!known.has(model)) throw new Error(`${model} is no model`);
    if (group === 'meta') {
      home.set(model, `${prefixOf(group, version)}.${bare(model)}`);
      queue.push([model, [group, version]]);
    } else {
      const name = nameOf(model, [group, version]);
      kinds[`${group === 'core' ? '' : `${group}/`}${version}/${bare(model)}`] = name;
    }
  }
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) await define(...next);
}
const meta = (kind) => `io.k8s.apimachinery.pkg.apis.meta.v1.${kind}`;
kinds['v1/Status'] = meta('Status');
for (const key of [...Object.keys(facts.lists), ...facts.atomicTypes, ...facts.atomicFields]) {
  const [group, version, kind, field] = key.split('.');
  const name = Object.keys(definitions).find((full) =>
    full.endsWith(`.${group}.${version}.${kind}`),
  );
  if (
    name !== undefined &&
    field !== undefined &&
    definitions[name].properties[field] === undefined
  ) {
    throw new Error(`facts.json names ${key}, which the models do not have`);
  }
}
const sorted = Object.fromEntries(Object.entries(definitions).sort(([a], [b]) => (a < b ? -1 : 1)));
// Definitions as texts: parsed when asked for, and a module like any other for tsc, Jest and esbuild (a JSON import would
// need settings in each of them).
const table = (entries) =>
  entries.map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`).join(',');
const source = `/* eslint-disable max-lines -- generated by generate/generate.mjs; one line per definition */
/** group/version/kind -> name of the definition. */
export const kindDefinitions: Readonly<Record<string, string>> = {${table(Object.entries(kinds))}};
/** Definition name -> its schema as JSON. */
export const definitionTexts: Readonly<Record<string, string>> = {${table(
  Object.entries(sorted).map(([name, schema]) => [name, JSON.stringify(schema)]),
)}};
`;
const style = { parser: 'typescript', printWidth: 100, singleQuote: true };
writeFileSync(join(here, '..', 'builtin-data.ts'), await format(source, style));
process.stdout.write(
  `${Object.keys(kinds).length} kinds, ${Object.keys(sorted).length} definitions\n`,
);

import { isObject, own } from './json.ts';
import {
  label1035Problem,
  labelProblem,
  labelValueProblem,
  pathSegmentProblem,
  qualifiedNameProblem,
  subdomainProblem,
} from './names.ts';
import type { FieldError, JsonObject } from './types.ts';

const maxAnnotationBytes = 256 * 1024;
const maxDataBytes = 1024 * 1024;

type Check = (object: JsonObject, errors: FieldError[]) => void;

/** What the object's own metadata must be: name, labels, annotations. */
export function validateMetadata(
  object: JsonObject,
  { kind, group, namespaced }: { kind: string; group: string; namespaced: boolean },
): FieldError[] {
  const errors: FieldError[] = [];
  const metadata = own(object, 'metadata');
  const name = own(metadata, 'name');
  if (typeof name !== 'string' || name === '') {
    errors.push({
      field: 'metadata.name',
      reason: 'FieldValueRequired',
      message: 'Required value: name or generateName is required',
    });
  } else {
    const problem = nameRule(group, kind)(name);
    if (problem !== undefined) errors.push(invalid('metadata.name', name, problem));
  }
  const namespace = own(metadata, 'namespace');
  if (!namespaced && typeof namespace === 'string' && namespace !== '') {
    errors.push({
      field: 'metadata.namespace',
      reason: 'FieldValueForbidden',
      message: 'Forbidden: not allowed on this type',
    });
  }
  checkLabels(own(metadata, 'labels'), 'metadata.labels', errors);
  checkAnnotations(own(metadata, 'annotations'), errors);
  return errors;
}

function nameRule(group: string, kind: string): (name: string) => string | undefined {
  if (group === 'rbac.authorization.k8s.io') return pathSegmentProblem;
  if (group === '' && kind === 'Namespace') return labelProblem;
  if (group === '' && kind === 'Service') return label1035Problem;
  return subdomainProblem;
}

function invalid(field: string, value: unknown, problem: string): FieldError {
  const message = `Invalid value: ${JSON.stringify(value)}: ${problem}`;
  return { field, reason: 'FieldValueInvalid', message };
}

function required(field: string, detail = ''): FieldError {
  const message = detail === '' ? 'Required value' : `Required value: ${detail}`;
  return { field, reason: 'FieldValueRequired', message };
}

function checkLabels(labels: unknown, field: string, errors: FieldError[]): void {
  if (!isObject(labels)) return;
  for (const [key, value] of Object.entries(labels)) {
    const problem = qualifiedNameProblem(key);
    if (problem !== undefined) errors.push(invalid(field, key, problem));
    const wrong = typeof value === 'string' ? labelValueProblem(value) : undefined;
    if (wrong !== undefined) errors.push(invalid(field, value, wrong));
  }
}

function checkAnnotations(annotations: unknown, errors: FieldError[]): void {
  if (!isObject(annotations)) return;
  let bytes = 0;
  for (const [key, value] of Object.entries(annotations)) {
    bytes += Buffer.byteLength(key) + (typeof value === 'string' ? Buffer.byteLength(value) : 0);
    const problem = qualifiedNameProblem(key.toLowerCase());
    if (problem !== undefined) errors.push(invalid('metadata.annotations', key, problem));
  }
  if (bytes > maxAnnotationBytes) {
    errors.push({
      field: 'metadata.annotations',
      reason: 'FieldValueTooLong',
      message: `Too long: may not be more than ${maxAnnotationBytes} bytes`,
    });
  }
}

/** Rules of Kubernetes' own kinds that no schema says; kinds without such rules pass. */
export function validateBuiltin(group: string, kind: string, object: JsonObject): FieldError[] {
  const errors: FieldError[] = [];
  checks.get(`${group}/${kind}`)?.(object, errors);
  return errors;
}

function listAt(object: unknown, key: string): unknown[] {
  const value = own(object, key);
  return Array.isArray(value) ? value : [];
}

function checkPort(value: unknown, field: string, errors: FieldError[]): void {
  if (typeof value !== 'number') return;
  if (!Number.isInteger(value) || value < 1 || value > 65_535) {
    errors.push(invalid(field, value, 'must be between 1 and 65535, inclusive'));
  }
}

const protocols = ['SCTP', 'TCP', 'UDP'];

function checkOneOf(
  value: unknown,
  allowed: readonly string[],
  field: string,
  errors: FieldError[],
): void {
  if (value === undefined || (typeof value === 'string' && allowed.includes(value))) return;
  const list = allowed.map((one) => JSON.stringify(one)).join(', ');
  errors.push({
    field,
    reason: 'FieldValueNotSupported',
    message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${list}`,
  });
}

function checkNamed(list: readonly unknown[], field: string, errors: FieldError[]): void {
  const seen = new Set<string>();
  for (const [index, item] of list.entries()) {
    const name = own(item, 'name');
    const at = `${field}[${index}].name`;
    if (typeof name !== 'string' || name === '') {
      errors.push(required(at));
      continue;
    }
    const problem = labelProblem(name);
    if (problem !== undefined) errors.push(invalid(at, name, problem));
    if (seen.has(name)) {
      const message = `Duplicate value: ${JSON.stringify(name)}`;
      errors.push({ field: at, reason: 'FieldValueDuplicate', message });
    }
    seen.add(name);
  }
}

function checkContainers(spec: unknown, field: string, errors: FieldError[]): void {
  const containers = listAt(spec, 'containers');
  if (containers.length === 0) errors.push(required(`${field}.containers`));
  const all = [
    ...containers.map((item, index) => ({ item, at: `${field}.containers[${index}]` })),
    ...listAt(spec, 'initContainers').map((item, index) => ({
      item,
      at: `${field}.initContainers[${index}]`,
    })),
  ];
  checkNamed(containers, `${field}.containers`, errors);
  checkNamed(listAt(spec, 'initContainers'), `${field}.initContainers`, errors);
  const volumes = new Set(listAt(spec, 'volumes').map((volume) => own(volume, 'name')));
  for (const { item, at } of all) checkContainer(item, at, volumes, errors);
}

function checkContainer(
  container: unknown,
  at: string,
  volumes: ReadonlySet<unknown>,
  errors: FieldError[],
): void {
  const image = own(container, 'image');
  if (typeof image !== 'string' || image === '') errors.push(required(`${at}.image`));
  checkOneOf(
    own(container, 'imagePullPolicy'),
    ['Always', 'IfNotPresent', 'Never'],
    `${at}.imagePullPolicy`,
    errors,
  );
  for (const [index, port] of listAt(container, 'ports').entries()) {
    const field = `${at}.ports[${index}]`;
    if (own(port, 'containerPort') === undefined) errors.push(required(`${field}.containerPort`));
    checkPort(own(port, 'containerPort'), `${field}.containerPort`, errors);
    checkOneOf(own(port, 'protocol'), protocols, `${field}.protocol`, errors);
  }
  for (const [index, variable] of listAt(container, 'env').entries()) {
    if (own(variable, 'name') === undefined) errors.push(required(`${at}.env[${index}].name`));
  }
  for (const [index, mount] of listAt(container, 'volumeMounts').entries()) {
    const name = own(mount, 'name');
    if (typeof name !== 'string' || volumes.has(name)) continue;
    const message = `Not found: ${JSON.stringify(name)}`;
    errors.push({
      field: `${at}.volumeMounts[${index}].name`,
      reason: 'FieldValueInvalid',
      message,
    });
  }
}

function checkPodSpec(spec: unknown, field: string, errors: FieldError[]): void {
  checkContainers(spec, field, errors);
  checkNamed(listAt(spec, 'volumes'), `${field}.volumes`, errors);
  checkOneOf(
    own(spec, 'restartPolicy'),
    ['Always', 'OnFailure', 'Never'],
    `${field}.restartPolicy`,
    errors,
  );
  const grace = own(spec, 'terminationGracePeriodSeconds');
  if (typeof grace === 'number' && grace < 0) {
    errors.push(
      invalid(
        `${field}.terminationGracePeriodSeconds`,
        grace,
        'must be greater than or equal to 0',
      ),
    );
  }
}

function matches(selector: unknown, labels: unknown): boolean {
  const wanted = own(selector, 'matchLabels');
  const equal =
    !isObject(wanted) || Object.entries(wanted).every(([key, value]) => own(labels, key) === value);
  return equal && listAt(selector, 'matchExpressions').every((one) => expressionHolds(one, labels));
}

function expressionHolds(expression: unknown, labels: unknown): boolean {
  const key = own(expression, 'key');
  const value = typeof key === 'string' ? own(labels, key) : undefined;
  const values = listAt(expression, 'values');
  switch (own(expression, 'operator')) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    default:
      return false;
  }
}

function checkReplicas(spec: unknown, errors: FieldError[]): void {
  const replicas = own(spec, 'replicas');
  if (typeof replicas === 'number' && replicas < 0) {
    errors.push(invalid('spec.replicas', replicas, 'must be greater than or equal to 0'));
  }
}

const checkWorkload: Check = (object, errors) => {
  const spec = own(object, 'spec');
  const selector = own(spec, 'selector');
  const template = own(spec, 'template');
  const labels = own(own(template, 'metadata'), 'labels');
  checkReplicas(spec, errors);
  const isEmpty =
    !isObject(selector) ||
    (!isObject(own(selector, 'matchLabels')) && listAt(selector, 'matchExpressions').length === 0);
  if (isEmpty) errors.push(required('spec.selector'));
  else if (!matches(selector, labels)) {
    const problem = '`selector` does not match template `labels`';
    errors.push(invalid('spec.template.metadata.labels', labels ?? {}, problem));
  }
  checkLabels(labels, 'spec.template.metadata.labels', errors);
  checkPodSpec(own(template, 'spec'), 'spec.template.spec', errors);
  const policy = own(own(template, 'spec'), 'restartPolicy');
  checkOneOf(policy, ['Always'], 'spec.template.spec.restartPolicy', errors);
};

const checkJob: Check = (object, errors) => {
  const template = own(own(object, 'spec'), 'template');
  checkPodSpec(own(template, 'spec'), 'spec.template.spec', errors);
  if (own(own(template, 'spec'), 'restartPolicy') === undefined) {
    errors.push(required('spec.template.spec.restartPolicy', 'valid values: "OnFailure", "Never"'));
  }
};

const checkService: Check = (object, errors) => {
  const spec = own(object, 'spec');
  const ports = listAt(spec, 'ports');
  const type = own(spec, 'type');
  checkOneOf(type, ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'], 'spec.type', errors);
  if (type === 'ExternalName') {
    if (own(spec, 'externalName') === undefined) errors.push(required('spec.externalName'));
    return;
  }
  if (ports.length === 0 && own(spec, 'clusterIP') !== 'None') errors.push(required('spec.ports'));
  const seen = new Set<string>();
  for (const [index, port] of ports.entries()) {
    const field = `spec.ports[${index}]`;
    checkServicePort(port, field, ports.length > 1, errors);
    const key = JSON.stringify([own(port, 'protocol') ?? 'TCP', own(port, 'port')]);
    if (seen.has(key)) {
      const shown = JSON.stringify({
        port: own(port, 'port'),
        protocol: own(port, 'protocol') ?? 'TCP',
      });
      errors.push({ field, reason: 'FieldValueDuplicate', message: `Duplicate value: ${shown}` });
    }
    seen.add(key);
  }
};

function checkServicePort(
  port: unknown,
  field: string,
  named: boolean,
  errors: FieldError[],
): void {
  const name = own(port, 'name');
  if (named && (typeof name !== 'string' || name === '')) errors.push(required(`${field}.name`));
  const problem = typeof name === 'string' && name !== '' ? labelProblem(name) : undefined;
  if (problem !== undefined) errors.push(invalid(`${field}.name`, name, problem));
  if (own(port, 'port') === undefined) errors.push(required(`${field}.port`));
  checkPort(own(port, 'port'), `${field}.port`, errors);
  checkPort(own(port, 'targetPort'), `${field}.targetPort`, errors);
  checkOneOf(own(port, 'protocol'), protocols, `${field}.protocol`, errors);
}

const checkData: Check = (object, errors) => {
  let bytes = 0;
  for (const field of ['data', 'binaryData', 'stringData']) {
    const data = own(object, field);
    if (!isObject(data)) continue;
    for (const [key, value] of Object.entries(data)) {
      bytes += typeof value === 'string' ? value.length : 0;
      if (!/^[-._a-zA-Z0-9]{1,253}$/.test(key)) {
        const rule =
          "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
        errors.push(invalid(`${field}[${key}]`, key, rule));
      }
    }
  }
  if (bytes > maxDataBytes) {
    const message = `Too long: may not be more than ${maxDataBytes} bytes`;
    errors.push({ field: '', reason: 'FieldValueTooLong', message });
  }
};

const checkBinding: Check = (object, errors) => {
  const ref = own(object, 'roleRef');
  if (own(ref, 'name') === undefined) errors.push(required('roleRef.name'));
  checkOneOf(own(ref, 'kind') ?? '', ['Role', 'ClusterRole'], 'roleRef.kind', errors);
  for (const [index, subject] of listAt(object, 'subjects').entries()) {
    const at = `subjects[${index}]`;
    checkOneOf(
      own(subject, 'kind') ?? '',
      ['ServiceAccount', 'User', 'Group'],
      `${at}.kind`,
      errors,
    );
    const needsNamespace = own(subject, 'kind') === 'ServiceAccount';
    if (needsNamespace && own(subject, 'namespace') === undefined) {
      errors.push(required(`${at}.namespace`));
    }
  }
};

const checks = new Map<string, Check>([
  ['/Pod', (object, errors) => checkPodSpec(own(object, 'spec'), 'spec', errors)],
  ['/Service', checkService],
  ['/ConfigMap', checkData],
  ['/Secret', checkData],
  ['apps/Deployment', checkWorkload],
  ['apps/ReplicaSet', checkWorkload],
  ['apps/StatefulSet', checkWorkload],
  ['apps/DaemonSet', checkWorkload],
  ['batch/Job', checkJob],
  ['rbac.authorization.k8s.io/RoleBinding', checkBinding],
  ['rbac.authorization.k8s.io/ClusterRoleBinding', checkBinding],
]);

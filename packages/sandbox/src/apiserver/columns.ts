import type { JsonObject, KubeObject } from './object.ts';
import { listAt, numberAt, objectAt, objectsAt, stringAt, stringsAt, valueAt } from './object.ts';

export type Cell = string | number | boolean | null;

export interface Column {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'date';
  /** 0 is always shown, 1 with `-o wide`. */
  readonly priority: 0 | 1;
  cell(object: KubeObject, nowMs: number): Cell;
}

type Read = (object: KubeObject, nowMs: number) => Cell;

function column(
  name: string,
  cell: Read,
  priority: 0 | 1 = 0,
  type: Column['type'] = 'string',
): Column {
  return { name, type, priority, cell };
}

function count(name: string, cell: Read): Column {
  return column(name, cell, 0, 'integer');
}

function wide(name: string, cell: Read): Column {
  return column(name, cell, 1);
}

const named = column('Name', ({ metadata }) => metadata.name);
const aged = column('Age', ({ metadata }, nowMs) => age(metadata.creationTimestamp, nowMs));

/** Time since then as kubectl writes it: `5s`, `3m2s`, `4h`, `2d3h`, `400d`. */
export function age(since: string | undefined, nowMs: number): string {
  if (since === undefined) return '<unknown>';
  const seconds = Math.max(0, Math.floor((nowMs - Date.parse(since)) / 1000));
  if (Number.isNaN(seconds)) return '<unknown>';
  const [minutes, hours, days] = [60, 3600, 86_400].map((unit) => Math.floor(seconds / unit)) as [
    number,
    number,
    number,
  ];
  const two = (big: number, unit: string, small: number, smallUnit: string): string =>
    small === 0 ? `${big}${unit}` : `${big}${unit}${small}${smallUnit}`;
  if (seconds < 120) return `${seconds}s`;
  if (minutes < 10) return two(minutes, 'm', seconds % 60, 's');
  if (minutes < 180) return `${minutes}m`;
  if (hours < 8) return two(hours, 'h', minutes % 60, 'm');
  if (hours < 48) return `${hours}h`;
  if (days < 8) return two(days, 'd', hours % 24, 'h');
  return days < 730 ? `${days}d` : two(Math.floor(days / 365), 'y', days % 365, 'd');
}

function podStatus(pod: KubeObject): string {
  const reason = stringAt(pod, 'status', 'reason') ?? stringAt(pod, 'status', 'phase') ?? 'Unknown';
  const containers = objectsAt(pod, 'status', 'containerStatuses');
  const states = containers.flatMap((status) => {
    const { waiting, terminated } = objectAt(status, 'state');
    const why = stringAt(waiting, 'reason') ?? stringAt(terminated, 'reason');
    if (why !== undefined) return [why];
    return terminated === undefined ? [] : [`ExitCode:${numberAt(terminated, 'exitCode') ?? 0}`];
  });
  const running = containers.some(
    (status) => status['ready'] === true && objectAt(status, 'state')['running'] !== undefined,
  );
  const init = initStatus(pod);
  if (pod.metadata.deletionTimestamp !== undefined) return 'Terminating';
  if (init !== undefined) return init;
  const shown = states[0] ?? reason;
  return shown === 'Completed' && running ? 'Running' : shown;
}

function initStatus(pod: KubeObject): string | undefined {
  const specs = objectsAt(pod, 'spec', 'initContainers');
  const statuses = objectsAt(pod, 'status', 'initContainerStatuses');
  for (const [index, status] of statuses.entries()) {
    const { terminated, waiting } = objectAt(status, 'state');
    if (terminated !== undefined && numberAt(terminated, 'exitCode') === 0) continue;
    if (specs[index]?.['restartPolicy'] === 'Always' && status['started'] === true) continue;
    const why = stringAt(terminated, 'reason') ?? stringAt(waiting, 'reason');
    return why === undefined || why === 'PodInitializing'
      ? `Init:${index}/${specs.length}`
      : `Init:${why}`;
  }
  return undefined;
}

function podReady(pod: KubeObject): string {
  const ready = objectsAt(pod, 'status', 'containerStatuses').filter(
    (status) => status['ready'] === true,
  );
  return `${ready.length}/${listAt(pod, 'spec', 'containers').length}`;
}

function podRestarts(pod: KubeObject, nowMs: number): string {
  const statuses = objectsAt(pod, 'status', 'containerStatuses');
  const total = statuses.reduce((sum, status) => sum + (numberAt(status, 'restartCount') ?? 0), 0);
  const ended = statuses
    .map((status) => stringAt(status, 'lastState', 'terminated', 'finishedAt'))
    .filter((time) => time !== undefined)
    .sort();
  return total === 0 || ended.length === 0
    ? String(total)
    : `${total} (${age(ended.at(-1), nowMs)} ago)`;
}

function podGates(pod: KubeObject): string {
  const gates = objectsAt(pod, 'spec', 'readinessGates');
  if (gates.length === 0) return '<none>';
  const conditions = objectsAt(pod, 'status', 'conditions');
  const met = gates.filter((gate) =>
    conditions.some((one) => one['type'] === gate['conditionType'] && one['status'] === 'True'),
  );
  return `${met.length}/${gates.length}`;
}

const text =
  (...path: readonly string[]): Read =>
  (object) =>
    stringAt(object, ...path) ?? '<none>';

const number =
  (...path: readonly string[]): Read =>
  (object) =>
    numberAt(object, ...path) ?? 0;

const size =
  (field: string): Read =>
  (object) =>
    Object.keys(objectAt(object, field)).length +
    (field === 'data' ? Object.keys(objectAt(object, 'binaryData')).length : 0);

function selectorText(selector: JsonObject): string {
  const expressions = objectsAt(selector, 'matchExpressions').map(
    (one) =>
      `${String(one['key'])} ${String(one['operator']).toLowerCase()} (${stringsAt(one, 'values').join(',')})`,
  );
  const pairs = Object.entries(objectAt(selector, 'matchLabels')).map(
    ([key, value]) => `${key}=${String(value)}`,
  );
  return [...pairs, ...expressions].join(',') || '<none>';
}

const templateColumns = [
  wide('Containers', (object) => containers(object, 'name')),
  wide('Images', (object) => containers(object, 'image')),
  wide('Selector', (object) => selectorText(objectAt(object, 'spec', 'selector'))),
];

function containers(object: KubeObject, field: string): string {
  return objectsAt(object, 'spec', 'template', 'spec', 'containers')
    .map((container) => String(container[field]))
    .join(',');
}

function servicePorts(service: KubeObject): string {
  const ports = objectsAt(service, 'spec', 'ports').map((port) => {
    const node =
      numberAt(port, 'nodePort') === undefined ? '' : `:${String(numberAt(port, 'nodePort'))}`;
    return `${String(port['port'])}${node}/${String(port['protocol'])}`;
  });
  return ports.join(',') || '<none>';
}

function externalAddress(service: KubeObject): string {
  const type = stringAt(service, 'spec', 'type');
  const external = stringsAt(service, 'spec', 'externalIPs');
  if (type === 'ExternalName') return stringAt(service, 'spec', 'externalName') ?? '<none>';
  const ingress = objectsAt(service, 'status', 'loadBalancer', 'ingress').map(
    (one) => stringAt(one, 'ip') ?? stringAt(one, 'hostname') ?? '',
  );
  return [...ingress, ...external].join(',') || (type === 'LoadBalancer' ? '<pending>' : '<none>');
}

function nodeStatus(node: KubeObject): string {
  const ready = objectsAt(node, 'status', 'conditions').find((one) => one['type'] === 'Ready');
  const state = ready === undefined ? 'Unknown' : ready['status'] === 'True' ? 'Ready' : 'NotReady';
  return valueAt(node, 'spec', 'unschedulable') === true ? `${state},SchedulingDisabled` : state;
}

function nodeRoles(node: KubeObject): string {
  const prefix = 'node-role.kubernetes.io/';
  const roles = Object.keys(node.metadata.labels ?? {}).filter((key) => key.startsWith(prefix));
  return (
    roles
      .map((key) => key.slice(prefix.length))
      .sort()
      .join(',') || '<none>'
  );
}

function nodeAddress(type: string): Read {
  return (node) => {
    const found = objectsAt(node, 'status', 'addresses').find((one) => one['type'] === type);
    return stringAt(found, 'address') ?? '<none>';
  };
}

function eventObject(event: KubeObject): string {
  const object = objectAt(event, 'involvedObject');
  return `${String(object['kind']).toLowerCase()}/${String(object['name'])}`;
}

function eventTime(
  event: KubeObject,
  field: 'firstTimestamp' | 'lastTimestamp',
  nowMs: number,
): string {
  return age(
    stringAt(event, field) ?? stringAt(event, 'eventTime') ?? event.metadata.creationTimestamp,
    nowMs,
  );
}

function sliceEndpoints(slice: KubeObject): string {
  const all = objectsAt(slice, 'endpoints').flatMap((endpoint) => stringsAt(endpoint, 'addresses'));
  if (all.length === 0) return '<unset>';
  return all.length > 3
    ? `${all.slice(0, 3).join(',')} + ${all.length - 3} more...`
    : all.join(',');
}

function endpointAddresses(endpoints: KubeObject): string {
  const all = objectsAt(endpoints, 'subsets').flatMap((subset) =>
    objectsAt(subset, 'addresses').flatMap((address) => {
      const ports = objectsAt(subset, 'ports');
      const ip = String(address['ip']);
      return ports.length === 0 ? [ip] : ports.map((port) => `${ip}:${String(port['port'])}`);
    }),
  );
  return all.length > 3
    ? `${all.slice(0, 3).join(',')} + ${all.length - 3} more...`
    : all.join(',') || '<none>';
}

const subjects =
  (kind: string): Read =>
  (binding) =>
    objectsAt(binding, 'subjects')
      .filter((subject) => subject['kind'] === kind)
      .map((subject) =>
        kind === 'ServiceAccount'
          ? `${String(subject['namespace'])}/${String(subject['name'])}`
          : String(subject['name']),
      )
      .join(', ');

const bindingColumns = [
  named,
  column(
    'Role',
    (one) =>
      `${String(valueAt(one, 'roleRef', 'kind'))}/${String(valueAt(one, 'roleRef', 'name'))}`,
  ),
  aged,
  wide('Users', subjects('User')),
  wide('Groups', subjects('Group')),
  wide('ServiceAccounts', subjects('ServiceAccount')),
];

const createdAt = column('Created At', ({ metadata }) => metadata.creationTimestamp ?? '<unknown>');

/** Columns by resource, as kubectl's users know them; what is not here shows name and age. */
export const builtinColumns: ReadonlyMap<string, readonly Column[]> = new Map([
  [
    'pods',
    [
      named,
      column('Ready', podReady),
      column('Status', podStatus),
      column('Restarts', podRestarts),
      aged,
      wide('IP', text('status', 'podIP')),
      wide('Node', text('spec', 'nodeName')),
      wide('Nominated Node', text('status', 'nominatedNodeName')),
      wide('Readiness Gates', podGates),
    ],
  ],
  [
    'services',
    [
      named,
      column('Type', text('spec', 'type')),
      column('Cluster-IP', text('spec', 'clusterIP')),
      column('External-IP', externalAddress),
      column('Port(s)', servicePorts),
      aged,
      wide('Selector', (one) => selectorText({ matchLabels: objectAt(one, 'spec', 'selector') })),
    ],
  ],
  [
    'deployments.apps',
    [
      named,
      column(
        'Ready',
        (one) =>
          `${numberAt(one, 'status', 'readyReplicas') ?? 0}/${numberAt(one, 'spec', 'replicas') ?? 0}`,
      ),
      count('Up-to-date', number('status', 'updatedReplicas')),
      count('Available', number('status', 'availableReplicas')),
      aged,
      ...templateColumns,
    ],
  ],
  [
    'replicasets.apps',
    [
      named,
      count('Desired', number('spec', 'replicas')),
      count('Current', number('status', 'replicas')),
      count('Ready', number('status', 'readyReplicas')),
      aged,
      ...templateColumns,
    ],
  ],
  [
    'daemonsets.apps',
    [
      named,
      count('Desired', number('status', 'desiredNumberScheduled')),
      count('Current', number('status', 'currentNumberScheduled')),
      count('Ready', number('status', 'numberReady')),
      count('Up-to-date', number('status', 'updatedNumberScheduled')),
      count('Available', number('status', 'numberAvailable')),
      column('Node Selector', (one) =>
        selectorText({ matchLabels: objectAt(one, 'spec', 'template', 'spec', 'nodeSelector') }),
      ),
      aged,
      ...templateColumns,
    ],
  ],
  [
    'statefulsets.apps',
    [
      named,
      column(
        'Ready',
        (one) =>
          `${numberAt(one, 'status', 'readyReplicas') ?? 0}/${numberAt(one, 'spec', 'replicas') ?? 0}`,
      ),
      aged,
      ...templateColumns.slice(0, 2),
    ],
  ],
  [
    'nodes',
    [
      named,
      column('Status', nodeStatus),
      column('Roles', nodeRoles),
      aged,
      column('Version', text('status', 'nodeInfo', 'kubeletVersion')),
      wide('Internal-IP', nodeAddress('InternalIP')),
      wide('External-IP', nodeAddress('ExternalIP')),
      wide('OS-Image', text('status', 'nodeInfo', 'osImage')),
      wide('Kernel-Version', text('status', 'nodeInfo', 'kernelVersion')),
      wide('Container-Runtime', text('status', 'nodeInfo', 'containerRuntimeVersion')),
    ],
  ],
  ['namespaces', [named, column('Status', text('status', 'phase')), aged]],
  ['configmaps', [named, count('Data', size('data')), aged]],
  ['secrets', [named, column('Type', text('type')), count('Data', size('data')), aged]],
  ['serviceaccounts', [named, count('Secrets', (one) => listAt(one, 'secrets').length), aged]],
  ['endpoints', [named, column('Endpoints', endpointAddresses), aged]],
  [
    'endpointslices.discovery.k8s.io',
    [
      named,
      column('AddressType', text('addressType')),
      column(
        'Ports',
        (one) =>
          objectsAt(one, 'ports')
            .map((port) => String(numberAt(port, 'port') ?? '*'))
            .join(',') || '<unset>',
      ),
      column('Endpoints', sliceEndpoints),
      aged,
    ],
  ],
  ['leases.coordination.k8s.io', [named, column('Holder', text('spec', 'holderIdentity')), aged]],
  [
    'events',
    [
      column('Last Seen', (event, nowMs) => eventTime(event, 'lastTimestamp', nowMs)),
      column('Type', text('type')),
      column('Reason', text('reason')),
      column('Object', eventObject),
      wide('Subobject', (event) => stringAt(event, 'involvedObject', 'fieldPath') ?? ''),
      wide(
        'Source',
        (event) =>
          stringAt(event, 'source', 'component') ?? stringAt(event, 'reportingComponent') ?? '',
      ),
      column('Message', (event) => (stringAt(event, 'message') ?? '').trim()),
      wide('First Seen', (event, nowMs) => eventTime(event, 'firstTimestamp', nowMs)),
      { ...wide('Count', (event) => numberAt(event, 'count') ?? 1), type: 'integer' as const },
      wide('Name', ({ metadata }) => metadata.name),
    ],
  ],
  ['customresourcedefinitions.apiextensions.k8s.io', [named, createdAt]],
  ['roles.rbac.authorization.k8s.io', [named, createdAt]],
  ['clusterroles.rbac.authorization.k8s.io', [named, createdAt]],
  ['rolebindings.rbac.authorization.k8s.io', bindingColumns],
  ['clusterrolebindings.rbac.authorization.k8s.io', bindingColumns],
]);

export const plainColumns: readonly Column[] = [named, aged];

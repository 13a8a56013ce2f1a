import { setTimeout as sleep } from 'node:timers/promises';
import {
  dataplaneModeLabel,
  gatewayManagedLabel,
  useWaypointLabel,
  useWaypointNamespaceLabel,
} from '@ambit/api';
import { stringify } from 'yaml';
import type { ArgumentsCamelCase, Argv, CommandModule } from 'yargs';
import { CliError } from '../errors.ts';
import type { Kube, KubeObject } from '../kube.ts';
import type { CliOutput } from '../output.ts';
import type { Bindings } from './bindings.ts';
import { readBindings } from './bindings.ts';
import type { Purpose } from './objects.ts';
import {
  allGatewaysPath,
  classLabelsOf,
  conditionOf,
  gatewayOf,
  gatewayPath,
  isWaypoint,
  keyOf,
  labelName,
  purposeOf,
  purposes,
  table,
} from './objects.ts';
import type { Policy } from './policies.ts';
import { policyOfGateway, policyRows, targetedPolicies } from './policies.ts';

export interface CommandDeps {
  readonly output: CliOutput;
  readonly connect: (kubeconfig: string | undefined, context: string | undefined) => Kube;
}

interface Common {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: string;
  readonly name: string;
}

interface Making extends Common {
  readonly for?: Purpose;
  readonly revision?: string;
  readonly enrollNamespace: boolean;
  readonly overwrite: boolean;
  readonly wait: boolean;
  readonly waitTimeout: number;
}

interface Listing extends Common {
  readonly allNamespaces: boolean;
}

interface Deleting extends Common {
  readonly names?: readonly string[];
  readonly all: boolean;
}

const pollMs = 250;

/** `ambitctl waypoint …`: the proxy for requests of a namespace. */
export function waypointCommand(deps: CommandDeps): CommandModule {
  return {
    command: 'waypoint',
    describe: 'Give a namespace a proxy for requests, list them, look at them, take them away',
    builder: (args) => actions(args, deps),
    handler: () => undefined,
  };
}

function actions(args: Argv, deps: CommandDeps): Argv {
  return args
    .option('namespace', {
      alias: 'n',
      type: 'string',
      describe: 'namespace (default: of the context)',
      global: true,
    })
    .option('name', {
      type: 'string',
      default: 'waypoint',
      describe: 'name of the waypoint',
      global: true,
    })
    .command({
      command: 'apply',
      describe: 'Deploy a waypoint',
      builder: (one) => making(one),
      handler: (given) => apply(given as unknown as Making, deps),
    })
    .command({
      command: 'generate',
      describe: 'Print the Gateway that apply would make',
      builder: (one) => making(one),
      handler: (given) => generate(given as unknown as Making, deps),
    })
    .command({
      command: 'list',
      describe: 'List waypoints',
      builder: (one) =>
        one.option('all-namespaces', {
          alias: 'A',
          type: 'boolean',
          default: false,
          describe: 'of every namespace',
        }),
      handler: (given) => list(given as unknown as Listing, deps),
    })
    .command({
      command: 'status',
      describe: 'Tell whether a waypoint serves, whom, and what is held back without it',
      handler: (given) => status(given as unknown as Common, deps),
    })
    .command({
      command: 'delete [names..]',
      describe: 'Take waypoints away',
      builder: (one) =>
        one
          .positional('names', { type: 'string', array: true, describe: 'names of waypoints' })
          .option('all', {
            type: 'boolean',
            default: false,
            describe: 'every waypoint of the namespace',
          }),
      handler: (given) => remove(given as unknown as Deleting, deps),
    })
    .middleware(({ _: [, action] }) => checkAction(action), true)
    .demandCommand(1, `Which action? There are ${known}.`)
    .strict();
}

const names = ['apply', 'generate', 'list', 'status', 'delete'];
const known = `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;

function checkAction(action: string | number | undefined): void {
  if (action === undefined || names.includes(String(action))) return;
  throw new CliError(`there is no ambitctl waypoint ${action}; there are ${known}`);
}

function making(args: Argv): Argv {
  return args
    .option('for', { choices: purposes, describe: 'what traffic it is for (default: service)' })
    .option('revision', { alias: 'r', type: 'string', describe: 'revision of the control plane' })
    .option('enroll-namespace', {
      type: 'boolean',
      default: false,
      describe: 'bind the whole namespace to it',
    })
    .option('overwrite', {
      type: 'boolean',
      default: false,
      describe:
        'bind the namespace although it is bound to another, and change labels of the waypoint',
    })
    .option('wait', {
      alias: 'w',
      type: 'boolean',
      default: false,
      describe: 'wait until it serves',
    })
    .option('wait-timeout', {
      type: 'number',
      default: 90,
      describe: 'seconds to wait at most',
    });
}

export type { ArgumentsCamelCase };

function namespaceOf({ namespace }: Common, kube: Kube): string {
  return labelName('--namespace', namespace ?? kube.namespace);
}

function wishOf(given: Making, namespace: string) {
  return { name: given.name, namespace, purpose: given.for, revision: given.revision };
}

async function apply(given: Making, { connect, output }: CommandDeps): Promise<void> {
  labelName('--name', given.name);
  const kube = connect(given.kubeconfig, given.context);
  const namespace = namespaceOf(given, kube);
  const found = await kube.get(`/api/v1/namespaces/${namespace}`);
  if (found === undefined) throw new CliError(`there is no namespace ${namespace}`);
  if (given.enrollNamespace) checkEnrolment(found, given);
  await checkName(kube, namespace, given.name);
  await applyGateway(kube, namespace, given);
  output.out(`waypoint ${namespace}/${given.name} applied`);
  if (given.wait) await untilProgrammed(kube, namespace, given, output);
  if (given.enrollNamespace) await enrol(kube, found, given, output);
}

/** Makes the Gateway, or changes of one that is there what was asked for; the rest of it is its owner's. */
async function applyGateway(kube: Kube, namespace: string, given: Making): Promise<void> {
  const path = gatewayPath(namespace, given.name);
  const wanted = gatewayOf(wishOf(given, namespace));
  const found = await kube.get(path);
  if (found === undefined) return kube.apply(path, wanted);
  if (!isWaypoint(found)) {
    const { gatewayClassName } = found.spec ?? {};
    throw new CliError(
      `Gateway ${namespace}/${given.name} is there, of class ${String(gatewayClassName)}: give another --name`,
    );
  }
  const labels = Object.entries(wanted.metadata.labels ?? {}).filter(
    ([name, value]) => found.metadata.labels?.[name] !== value,
  );
  const other = labels.find(([name]) => found.metadata.labels?.[name] !== undefined);
  if (other !== undefined && !given.overwrite) {
    const [name] = other;
    throw new CliError(
      `waypoint ${namespace}/${given.name} has ${name}=${found.metadata.labels?.[name] ?? ''} already; give --overwrite to change that`,
    );
  }
  if (labels.length > 0)
    await kube.merge(path, { metadata: { labels: Object.fromEntries(labels) } });
}

/** A waypoint has a Service, a ServiceAccount and a Deployment of its name; those of others are never taken over. */
async function checkName(kube: Kube, namespace: string, name: string): Promise<void> {
  for (const [kind, collection] of [
    ['Service', '/api/v1/namespaces/NS/services'],
    ['ServiceAccount', '/api/v1/namespaces/NS/serviceaccounts'],
    ['Deployment', '/apis/apps/v1/namespaces/NS/deployments'],
  ] as const) {
    const { status, text } = await kube.read(`${collection.replace('NS', namespace)}/${name}`);
    // Who may not look at it is told by the Gateway's status.
    if (status !== 200) continue;
    const { metadata } = JSON.parse(text) as KubeObject;
    if (metadata.labels?.[gatewayManagedLabel] !== undefined) continue;
    throw new CliError(
      `${kind} ${namespace}/${name} is there and belongs to no waypoint: give another --name, or remove it`,
    );
  }
}

function checkEnrolment({ metadata }: KubeObject, { name, overwrite }: Making): void {
  const bound = metadata.labels?.[useWaypointLabel];
  const elsewhere = metadata.labels?.[useWaypointNamespaceLabel];
  const isSame = bound === name && (elsewhere ?? metadata.name) === metadata.name;
  if (bound === undefined || isSame || overwrite) return;
  throw new CliError(
    `namespace ${metadata.name} is bound to waypoint ${elsewhere === undefined ? '' : `${elsewhere}/`}${bound} already; give --overwrite to bind it to ${name}`,
  );
}

async function enrol(
  kube: Kube,
  { metadata }: KubeObject,
  { name }: Making,
  output: CliOutput,
): Promise<void> {
  await kube.merge(`/api/v1/namespaces/${metadata.name}`, {
    // A waypoint of another namespace is named by two labels.
    metadata: { labels: { [useWaypointLabel]: name, [useWaypointNamespaceLabel]: null } },
  });
  output.out(`namespace ${metadata.name} labelled ${useWaypointLabel}=${name}`);
  if (metadata.labels?.[dataplaneModeLabel] !== 'ambient') {
    output.err(
      `Warning: namespace ${metadata.name} is not in the mesh; label it ${dataplaneModeLabel}=ambient`,
    );
  }
}

async function untilProgrammed(
  kube: Kube,
  namespace: string,
  given: Making,
  output: CliOutput,
): Promise<void> {
  const deadline = Date.now() + given.waitTimeout * 1000;
  for (;;) {
    const gateway = await kube.get(gatewayPath(namespace, given.name));
    const accepted = gateway && conditionOf(gateway, 'Accepted');
    if (accepted?.status === 'False') {
      throw new CliError(`waypoint ${namespace}/${given.name} is refused: ${accepted.message}`);
    }
    const programmed = gateway && conditionOf(gateway, 'Programmed');
    if (programmed?.status === 'True') break;
    if (Date.now() > deadline) {
      throw new CliError(
        `waypoint ${namespace}/${given.name} does not serve after ${given.waitTimeout} s: ${programmed?.message ?? 'it is gone'}`,
      );
    }
    await sleep(pollMs);
  }
  output.out(`waypoint ${namespace}/${given.name} serves`);
}

function generate(given: Making, { connect, output }: CommandDeps): void {
  labelName('--name', given.name);
  let { namespace } = given;
  if (namespace === undefined) {
    try {
      namespace = connect(given.kubeconfig, given.context).namespace;
    } catch {
      namespace = 'default';
    }
  }
  labelName('--namespace', namespace);
  output.out(stringify(gatewayOf(wishOf(given, namespace))).trimEnd());
}

async function list(given: Listing, { connect, output }: CommandDeps): Promise<void> {
  const kube = connect(given.kubeconfig, given.context);
  const namespace = namespaceOf(given, kube);
  const path = given.allNamespaces ? allGatewaysPath : gatewayPath(namespace);
  const found = (await kube.list(path)).filter(isWaypoint);
  if (found.length === 0) {
    output.out(
      given.allNamespaces ? 'No waypoints found.' : `No waypoints found in namespace ${namespace}.`,
    );
    return;
  }
  const classLabels = await classLabelsOf(kube);
  const rows = found.map((one) => [
    ...(given.allNamespaces ? [one.metadata.namespace ?? ''] : []),
    one.metadata.name,
    one.metadata.labels?.['istio.io/rev'] ?? 'default',
    purposeOf(one, classLabels),
    conditionOf(one, 'Programmed').status,
  ]);
  const head = [
    ...(given.allNamespaces ? ['NAMESPACE'] : []),
    'NAME',
    'REVISION',
    'TRAFFIC',
    'PROGRAMMED',
  ];
  output.out(table([head, ...rows]));
}

async function status(given: Common, { connect, output }: CommandDeps): Promise<void> {
  const kube = connect(given.kubeconfig, given.context);
  const namespace = namespaceOf(given, kube);
  const gateway = await kube.get(gatewayPath(namespace, given.name));
  if (gateway === undefined || !isWaypoint(gateway)) {
    throw new CliError(
      `there is no waypoint ${namespace}/${given.name}; ambitctl waypoint apply makes one`,
    );
  }
  const accepted = conditionOf(gateway, 'Accepted');
  const programmed = conditionOf(gateway, 'Programmed');
  output.out(
    table([
      ['NAMESPACE', 'NAME', 'ACCEPTED', 'PROGRAMMED', 'REASON', 'MESSAGE'],
      [
        namespace,
        given.name,
        accepted.status,
        programmed.status,
        programmed.reason,
        programmed.message,
      ],
    ]),
  );
  const policies = await targetedPolicies(kube);
  const bindings = await readBindings(kube, gateway, policyOfGateway(keyOf(gateway), policies));
  tellBindings(bindings, output);
  tellPolicies(keyOf(gateway), policies, { bindings, output });
  if (programmed.status !== 'True')
    throw new CliError(`waypoint ${namespace}/${given.name} does not serve`);
}

function tellBindings({ rows }: Bindings, output: CliOutput): void {
  output.out('');
  output.out(
    rows.length === 0
      ? 'Nothing is bound to it.'
      : table([
          ['KIND', 'NAME', 'BOUND', 'REQUIRED', 'MESSAGE'],
          ...rows.map(({ kind, name, bound, required, message }) => [
            kind,
            name,
            bound,
            required,
            message,
          ]),
        ]),
  );
}

function tellPolicies(
  gateway: string,
  policies: readonly Policy[],
  { bindings, output }: { readonly bindings: Bindings; readonly output: CliOutput },
): void {
  const rows = policyRows(gateway, policies, bindings);
  if (rows.length === 0) return;
  output.out('');
  output.out(
    table([
      ['POLICY', 'NAME', 'WITHOUT THE WAYPOINT'],
      ...rows.map(({ kind, name, message }) => [kind, name, message]),
    ]),
  );
}

async function remove(given: Deleting, { connect, output }: CommandDeps): Promise<void> {
  const kube = connect(given.kubeconfig, given.context);
  const namespace = namespaceOf(given, kube);
  const named = given.names ?? [];
  if (given.all && named.length > 0) throw new CliError('give names or --all, not both');
  const all = given.all
    ? (await kube.list(gatewayPath(namespace)))
        .filter(isWaypoint)
        .map(({ metadata }) => metadata.name)
    : [];
  const names = given.all ? all : named.length > 0 ? named : [given.name];
  const missing: string[] = [];
  for (const name of names) {
    const gateway = await kube.get(gatewayPath(namespace, name));
    if (gateway === undefined || !isWaypoint(gateway)) {
      missing.push(name);
      continue;
    }
    await kube.remove(gatewayPath(namespace, name));
    output.out(`waypoint ${namespace}/${name} deleted`);
  }
  if (given.all && all.length === 0) output.out(`No waypoints found in namespace ${namespace}.`);
  if (missing.length > 0)
    throw new CliError(
      `there is no waypoint ${missing.map((name) => `${namespace}/${name}`).join(', ')}`,
    );
}

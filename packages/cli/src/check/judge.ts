import type { ClusterFacts, ProgramFacts } from './facts.ts';

export interface Finding {
  readonly check: string;
  readonly state: 'ok' | 'warning' | 'failed';
  readonly message: string;
}

const oldestMinor = 30;
const maxNames = 5;
const taint = 'cni.istio.io/not-ready';
const controllerName = 'ambit.dev/mesh-controller';
const waypointClass = 'istio-waypoint';

/** Definitions without which the controller compiles nothing of the kind. */
export const istioDefinitions = [
  'authorizationpolicies.security.istio.io',
  'peerauthentications.security.istio.io',
  'requestauthentications.security.istio.io',
  'destinationrules.networking.istio.io',
  'serviceentries.networking.istio.io',
  'virtualservices.networking.istio.io',
  'workloadentries.networking.istio.io',
  'telemetries.telemetry.istio.io',
] as const;

export const gatewayDefinitions = [
  'gatewayclasses.gateway.networking.k8s.io',
  'gateways.gateway.networking.k8s.io',
  'httproutes.gateway.networking.k8s.io',
  'grpcroutes.gateway.networking.k8s.io',
] as const;

/** Judges a cluster: each finding says what is so and, where it is wrong, what to do. */
export function judge(facts: ClusterFacts): Finding[] {
  return [
    kubernetesVersion(facts),
    otherMeshes(facts),
    ...definitions(facts),
    ...facts.programs.map((program) => programReady(program, facts)),
    versions(facts),
    nodesCovered(facts),
    taints(facts),
    webhook(facts),
    gatewayClass(facts),
    permissions(facts),
    capture(facts),
  ];
}

function kubernetesVersion({ kubernetesVersion: version }: ClusterFacts): Finding {
  const [, major, minor] = /^v?(\d+)\.(\d+)/.exec(version) ?? [];
  const is = Number(major) > 1 || Number(minor) >= oldestMinor;
  return is
    ? ok('kubernetes version', version)
    : failed(
        'kubernetes version',
        `${version || 'unknown'} is too old: the mesh needs 1.${oldestMinor} or newer`,
      );
}

function otherMeshes({ otherMeshes: others }: ClusterFacts): Finding {
  return others.length === 0
    ? ok('only mesh', 'no other mesh is here')
    : failed(
        'only mesh',
        `${others.join(', ')} is of another mesh of this cluster: uninstall one of the two`,
      );
}

function definitions({ definitions: there }: ClusterFacts): Finding[] {
  const missing = (wanted: readonly string[]): string[] => wanted.filter((one) => !there.has(one));
  const istio = missing(istioDefinitions);
  const gateway = missing(gatewayDefinitions);
  return [
    istio.length === 0
      ? ok('definitions of Istio', 'all are there')
      : failed('definitions of Istio', `${some(istio)} missing: install the chart base`),
    gateway.length === 0
      ? ok('definitions of the Gateway API', 'all are there')
      : warning(
          'definitions of the Gateway API',
          `${some(gateway)} missing, so there can be no waypoint: apply the standard channel of https://gateway-api.sigs.k8s.io`,
        ),
  ];
}

function programReady(program: ProgramFacts, { namespace }: ClusterFacts): Finding {
  const { kind, name, installed, wanted, pods } = program;
  const what = `${kind} ${namespace}/${name}`;
  if (!installed)
    return failed(name, `${what} is not there: install its chart, or give --namespace`);
  const ready = pods.filter((pod) => pod.ready).length;
  if (wanted === 0)
    return failed(name, `${what} wants no pods: look at its replicas or nodeSelector`);
  const reasons = pods
    .filter((pod) => !pod.ready)
    .map(({ name: pod, node, reason }) => `${pod} on ${node || 'no node'}: ${reason}`);
  if (ready >= wanted) {
    const text = `${ready} of ${wanted} ready`;
    // One more that is to take over, and does not.
    return reasons.length === 0 ? ok(name, text) : warning(name, `${text}; ${some(reasons, '; ')}`);
  }
  const why =
    reasons.length === 0
      ? `see kubectl -n ${namespace} describe ${kind.toLowerCase()} ${name}`
      : some(reasons, '; ');
  return failed(name, `${ready} of ${wanted} ready; ${why}`);
}

function versions({ programs, ownVersion }: ClusterFacts): Finding {
  const found = new Map<string, string[]>();
  for (const { name, pods } of programs)
    for (const version of new Set(pods.map((pod) => pod.version)))
      found.set(version, [...(found.get(version) ?? []), name]);
  const list = [...found].map(([version, names]) => `${version} (${names.join(', ')})`).join(', ');
  if (found.size === 0) return warning('versions', 'nothing runs that would have one');
  if (found.size > 1)
    return warning('versions', `${list}: an upgrade is under way or stopped half way`);
  const [version] = found.keys();
  return version === ownVersion
    ? ok('versions', `everything is ${ownVersion}`)
    : warning('versions', `the mesh is ${list}, ambitctl ${ownVersion}: take the one of the mesh`);
}

function nodesCovered({ nodes, programs }: ClusterFacts): Finding {
  const uncovered = nodes
    .filter(({ linux }) => linux)
    .map(({ name }) => name)
    .filter((node) =>
      programs.some(
        ({ kind, pods }) => kind === 'DaemonSet' && !pods.some((pod) => pod.node === node),
      ),
    );
  return uncovered.length === 0
    ? ok('nodes', `an agent and a ztunnel on each of ${nodes.length}`)
    : warning(
        'nodes',
        `${some(uncovered)} without agent or ztunnel: pods there are outside the mesh; look at nodeSelector and tolerations`,
      );
}

function taints({ nodes }: ClusterFacts): Finding {
  const tainted = nodes.filter((node) => node.taints.includes(taint)).map(({ name }) => name);
  return tainted.length === 0
    ? ok('taints', `no node waits with ${taint}`)
    : warning(
        'taints',
        `${some(tainted)} has ${taint}: its agent is not ready, or may not take it (chart cni-redirect: taint.enabled)`,
      );
}

function webhook({ webhook: found }: ClusterFacts): Finding {
  if (found === undefined)
    return warning(
      'validation',
      'ValidatingWebhookConfiguration ambit-validator is not there: mistakes in resources show on their status only',
    );
  return found.hasCaBundle
    ? ok('validation', 'resources are validated when they are applied')
    : warning(
        'validation',
        'ambit-validator has no caBundle yet, so nothing is validated: see the log of the controller',
      );
}

function gatewayClass({ gatewayClasses, definitions: there }: ClusterFacts): Finding {
  const found = gatewayClasses.find(({ name }) => name === waypointClass);
  if (found === undefined) {
    const fix = there.has(gatewayDefinitions[0])
      ? 'upgrade the chart base'
      : 'apply the Gateway API first, then upgrade the chart base';
    return warning(
      'gateway classes',
      `${waypointClass} is not there, so no waypoint is made: ${fix}`,
    );
  }
  if (found.controllerName !== controllerName)
    return failed(
      'gateway classes',
      `${waypointClass} belongs to ${found.controllerName}: that one would make the waypoints`,
    );
  return found.accepted
    ? ok('gateway classes', `${waypointClass} is accepted`)
    : warning(
        'gateway classes',
        `${waypointClass} is not accepted yet: see the log of the controller`,
      );
}

function permissions({ permissions: asked }: ClusterFacts): Finding {
  const denied = asked.filter(({ allowed }) => allowed === false);
  if (denied.length > 0)
    return failed(
      'permissions',
      `${some(denied.map(({ account, may }) => `${account} may not ${may}`))}: upgrade the charts`,
    );
  return asked.some(({ allowed }) => allowed === undefined)
    ? warning('permissions', 'you may not ask what the accounts of the mesh are allowed')
    : ok('permissions', 'the accounts of the mesh have theirs');
}

function capture({ enrolled }: ClusterFacts): Finding {
  const outside = enrolled.filter(({ captured }) => !captured);
  return outside.length === 0
    ? ok('capture', `${enrolled.length} pods are in the mesh`)
    : failed(
        'capture',
        `${some(outside.map(({ name, node }) => `${name} on ${node}`))} ought to be in the mesh and is not: see the events of the pod and the log of the agent on its node`,
      );
}

function some(names: readonly string[], separator = ', '): string {
  const more = names.length > maxNames ? ` and ${names.length - maxNames} more` : '';
  return `${names.slice(0, maxNames).join(separator)}${more}`;
}

function ok(check: string, message: string): Finding {
  return { check, state: 'ok', message };
}

function warning(check: string, message: string): Finding {
  return { check, state: 'warning', message };
}

function failed(check: string, message: string): Finding {
  return { check, state: 'failed', message };
}

import type { IpAddress, Port } from '@ambit/api';
import { parseIp, parsePort } from '@ambit/api';
import type { V1Container, V1Namespace, V1Pod, V1Probe } from '@kubernetes/client-node';
import type { PodFacts } from '../enrol.ts';

export function decodePod(pod: V1Pod): PodFacts {
  const { metadata, spec, status } = pod;
  const containers = [...(spec?.containers ?? []), ...(spec?.initContainers ?? [])];
  return {
    ...identityOf(pod),
    serviceAccount: spec?.serviceAccountName ?? 'default',
    labels: mapOf(metadata?.labels),
    annotations: mapOf(metadata?.annotations),
    hostNetwork: spec?.hostNetwork ?? false,
    phase: status?.phase ?? 'Pending',
    deleting: metadata?.deletionTimestamp !== undefined,
    addresses: addressesOf(pod),
    probePorts: [...new Set(containers.flatMap(probePortsOf))],
    startedAtMs: startedAtMs(pod),
  };
}

export function decodeNamespace(namespace: V1Namespace): {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
} {
  return { name: namespace.metadata?.name ?? '', labels: mapOf(namespace.metadata?.labels) };
}

function identityOf({ metadata }: V1Pod): Pick<PodFacts, 'uid' | 'namespace' | 'name'> {
  return {
    uid: metadata?.uid ?? '',
    namespace: metadata?.namespace ?? '',
    name: metadata?.name ?? '',
  };
}

function addressesOf({ status }: V1Pod): IpAddress[] {
  const texts = [...(status?.podIPs ?? []).map(({ ip }) => ip), status?.podIP];
  return [...new Set(texts.flatMap((text) => (text === undefined ? [] : addressOf(text))))];
}

function startedAtMs({ status }: V1Pod): number | undefined {
  const containers = [
    ...(status?.initContainerStatuses ?? []),
    ...(status?.containerStatuses ?? []),
  ];
  const times = containers
    .flatMap(({ state, lastState }) => [state, lastState])
    .flatMap((state) => [state?.running?.startedAt, state?.terminated?.startedAt])
    .flatMap((time) => (time === undefined ? [] : [new Date(time).getTime()]));
  return times.length === 0 ? undefined : Math.max(...times);
}

function mapOf(record: Readonly<Record<string, string>> | undefined): ReadonlyMap<string, string> {
  return new Map(Object.entries(record ?? {}));
}

function addressOf(text: string): IpAddress[] {
  const ip = parseIp(text);
  return ip.ok ? [ip.value] : [];
}

/** What the kubelet asks of the pod itself: probes, and hooks such as `preStop` by HTTP. */
function probePortsOf(container: V1Container): Port[] {
  const { startupProbe, readinessProbe, livenessProbe, lifecycle } = container;
  const asked = [
    startupProbe,
    readinessProbe,
    livenessProbe,
    lifecycle?.postStart,
    lifecycle?.preStop,
  ];
  return asked.flatMap((one) => (one === undefined ? [] : portOf(one, container)));
}

type Asked = Pick<V1Probe, 'httpGet' | 'tcpSocket' | 'grpc'>;

function portOf(asked: Asked, container: V1Container): Port[] {
  const named = asked.httpGet?.port ?? asked.tcpSocket?.port ?? asked.grpc?.port;
  if (named === undefined) return [];
  const text = String(named);
  const number = container.ports?.find(({ name }) => name === text)?.containerPort ?? text;
  const port = parsePort(number);
  return port.ok ? [port.value] : [];
}

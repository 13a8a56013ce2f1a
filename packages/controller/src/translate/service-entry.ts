import type { Hostname, IpAddress, Port, Resolution } from '@ambit/api';
import { parseHostname, parseIp, parsePort } from '@ambit/api';

import type { ServiceEntryRecord } from '../kube/decode/configuration.ts';
import type { Metadata, Problem } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import type { ServiceEntrySpec } from '../resources/service-entry.ts';
import type { EntryEndpoint, Report } from './entry-endpoint.ts';
import { compileEntryEndpoint, isReservedAddress } from './entry-endpoint.ts';

export interface EntryPort {
  readonly name: string;
  readonly port: Port;
  readonly appProtocol: string;
  readonly targetPort: Port;
}

/** A ServiceEntry by itself; what others claim of the same names and addresses is not looked at. */
export interface CompiledServiceEntry {
  readonly key: string;
  readonly meta: Metadata;
  readonly status: unknown;
  readonly hosts: readonly Hostname[];
  readonly vips: readonly IpAddress[];
  readonly ports: readonly EntryPort[];
  readonly location: 'external' | 'internal';
  readonly resolution: Resolution;
  readonly endpoints: readonly EntryEndpoint[];
  /** Labels of WorkloadEntries and pods of its namespace; undefined when it selects none. */
  readonly selector: ReadonlyMap<string, string> | undefined;
  /** The namespaces it is exported to; all when undefined. */
  readonly visibleTo: readonly string[] | undefined;
  readonly subjectAltNames: readonly string[];
  readonly problems: readonly Problem[];
}

const resolutions: Readonly<Record<string, Resolution>> = {
  NONE: 'none',
  STATIC: 'static',
  DNS: 'dns',
  DNS_ROUND_ROBIN: 'dns-round-robin',
};

/** ServiceEntry as Istio defines it. What cannot be done is told and left out; the rest holds. */
export function compileServiceEntry(record: ServiceEntryRecord): CompiledServiceEntry {
  const { meta, status } = record;
  const problems: Problem[] = [...record.problems];
  const object = `ServiceEntry ${objectKey(meta)}`;
  const report: Report = (field, message) => void problems.push({ object, field, message });
  const spec: ServiceEntrySpec = record.spec.ok ? record.spec.value : {};
  const resolution = resolutions[spec.resolution ?? 'NONE'];
  if (resolution === undefined)
    report('spec.resolution', `${spec.resolution ?? ''} is not there yet; use DNS`);
  const usable = record.spec.ok && resolution !== undefined;
  return {
    key: objectKey(meta),
    meta,
    status,
    hosts: usable ? hostsOf(spec, report) : [],
    vips: usable ? vipsOf(spec, report) : [],
    ports: usable ? portsOf(spec, report) : [],
    location: spec.location === 'MESH_INTERNAL' ? 'internal' : 'external',
    resolution: resolution ?? 'none',
    ...endpointsOf(spec, resolution ?? 'none', usable ? report : () => undefined),
    visibleTo: exportedTo(spec.exportTo, meta.namespace),
    subjectAltNames: spec.subjectAltNames ?? [],
    problems,
  };
}

function hostsOf(spec: ServiceEntrySpec, report: Report): Hostname[] {
  const hosts = new Set<Hostname>();
  for (const [index, host] of (spec.hosts ?? []).entries()) {
    const parsed = parseHostname(host);
    if (parsed.ok) hosts.add(parsed.value);
    else if (host.startsWith('*'))
      report(`spec.hosts[${index}]`, 'wildcards are not there yet; name each host');
    else report(`spec.hosts[${index}]`, parsed.error.message);
  }
  if (hosts.size === 0) report('spec.hosts', 'names no host that can be used');
  return [...hosts];
}

function vipsOf(spec: ServiceEntrySpec, report: Report): IpAddress[] {
  const vips = new Set<IpAddress>();
  for (const [index, address] of (spec.addresses ?? []).entries()) {
    const path = `spec.addresses[${index}]`;
    const ip = parseIp(address.replace(/(?<=\.\d{1,3})\/32$|(?<=:[0-9a-f]*)\/128$/i, ''));
    if (!ip.ok) report(path, 'must be one address; ranges are not there yet, list each address');
    else if (isReservedAddress(ip.value))
      report(path, `${address} is loopback, link-local or multicast, and is never captured`);
    else vips.add(ip.value);
  }
  return [...vips];
}

const protocols: ReadonlyMap<string, string> = new Map([
  ['', ''],
  ['HTTP', 'http'],
  ['HTTP2', 'http2'],
  ['GRPC', 'grpc'],
  ['GRPC-WEB', 'grpc-web'],
  ['HTTPS', 'https'],
  ['TLS', 'tls'],
  ['TCP', 'tcp'],
  ['MONGO', 'tcp'],
  ['MYSQL', 'tcp'],
  ['REDIS', 'tcp'],
]);

function portsOf(spec: ServiceEntrySpec, report: Report): EntryPort[] {
  const ports = new Map<Port, EntryPort>();
  const names = new Set<string>();
  for (const [index, one] of (spec.ports ?? []).entries()) {
    const path = `spec.ports[${index}]`;
    const port = parsePort(one.number ?? 0);
    const target = parsePort(one.targetPort ?? one.number ?? 0);
    const name = one.name ?? '';
    const appProtocol = protocols.get((one.protocol ?? '').toUpperCase());
    if (!port.ok) report(`${path}.number`, port.error.message);
    else if (!target.ok) report(`${path}.targetPort`, target.error.message);
    else if (ports.has(port.value)) report(`${path}.number`, `${port.value} is there twice`);
    else if (names.has(name)) report(`${path}.name`, `${JSON.stringify(name)} is there twice`);
    else if (appProtocol === undefined)
      report(`${path}.protocol`, `must be one of ${[...protocols.keys()].slice(1).join(', ')}`);
    else {
      names.add(name);
      ports.set(port.value, { name, port: port.value, appProtocol, targetPort: target.value });
    }
  }
  if (ports.size === 0) report('spec.ports', 'names no port that can be used');
  return [...ports.values()];
}

function endpointsOf(
  spec: ServiceEntrySpec,
  resolution: Resolution,
  report: Report,
): Pick<CompiledServiceEntry, 'endpoints' | 'selector'> {
  const written = spec.endpoints ?? [];
  const selector = selectorOf(spec, report);
  if (resolution === 'none' && (written.length > 0 || selector !== undefined)) {
    report('spec.resolution', 'NONE goes where the client asked; set STATIC or DNS for endpoints');
    return { endpoints: [], selector: undefined };
  }
  if (resolution === 'static' && written.length === 0 && selector === undefined)
    report('spec.endpoints', 'STATIC needs endpoints or a workloadSelector');
  const resolvable = resolution === 'dns' || resolution === 'dns-round-robin';
  const endpoints = written.flatMap(
    (one, index) => compileEntryEndpoint(one, `spec.endpoints[${index}]`, resolvable, report) ?? [],
  );
  return { endpoints, selector };
}

function selectorOf(
  { endpoints = [], workloadSelector }: ServiceEntrySpec,
  report: Report,
): ReadonlyMap<string, string> | undefined {
  if (workloadSelector === undefined) return undefined;
  const selector = new Map(Object.entries(workloadSelector.labels ?? {}));
  if (selector.size === 0)
    report('spec.workloadSelector.labels', 'is empty and selects nothing; name labels');
  else if (endpoints.length > 0)
    report('spec.workloadSelector', 'cannot stand beside endpoints, which are used; remove one');
  else return selector;
  return undefined;
}

function exportedTo(
  exportTo: readonly string[] | undefined,
  namespace: string,
): readonly string[] | undefined {
  if (exportTo === undefined || exportTo.length === 0 || exportTo.includes('*')) return undefined;
  return [
    ...new Set(exportTo.flatMap((one) => (one === '.' ? [namespace] : one === '~' ? [] : [one]))),
  ].sort();
}

/** True when clients of some other namespace than its own see it. */
export function isPublic({ visibleTo, meta }: CompiledServiceEntry): boolean {
  return visibleTo === undefined || visibleTo.some((one) => one !== meta.namespace);
}

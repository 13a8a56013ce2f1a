import type { ConfigMap, ContainerSpec, EnvVar, Pod, Secret, Service } from '../cluster/objects.ts';

/** What an environment may refer to. */
export interface EnvironmentSources {
  configMap(name: string): Promise<ConfigMap | undefined>;
  secret(name: string): Promise<Secret | undefined>;
  readonly podIps: readonly string[];
  readonly hostIps: readonly string[];
  /** Services whose addresses the environment tells, as Docker links once did. */
  readonly services: readonly Service[];
}

/** A reference that leads nowhere: the container waits until it does. */
export class EnvironmentError extends Error {
  readonly code = 'kubelet/container-config';
}

/** `$(NAME)` by its value; `$$` escapes; unknown names stay as they are (core/v1 Container). */
export function expand(text: string, values: ReadonlyMap<string, string>): string {
  return text.replaceAll(/\$(?:\$|\(([^()\s]+)\))/g, (whole, name: string | undefined) => {
    if (name === undefined) return whole === '$$' ? '$' : whole;
    return values.get(name) ?? whole;
  });
}

/** A container's environment in the order Kubernetes defines: services, envFrom, env; later wins. */
export async function resolveEnvironment(
  pod: Pod,
  container: ContainerSpec,
  sources: EnvironmentSources,
): Promise<Map<string, string>> {
  const values = new Map<string, string>();
  for (const [name, value] of serviceLinks(sources.services)) values.set(name, value);
  for (const source of container.envFrom ?? []) {
    const data = await envFromData(source, sources);
    for (const [key, value] of Object.entries(data))
      values.set(`${source.prefix ?? ''}${key}`, value);
  }
  for (const variable of container.env ?? []) {
    const value = await valueOf(pod, container, variable, sources);
    if (value !== undefined) {
      values.set(variable.name, variable.valueFrom === undefined ? expand(value, values) : value);
    }
  }
  return values;
}

async function envFromData(
  source: NonNullable<ContainerSpec['envFrom']>[number],
  sources: EnvironmentSources,
): Promise<Record<string, string>> {
  if (source.configMapRef !== undefined) {
    const found = await sources.configMap(source.configMapRef.name);
    if (found === undefined && source.configMapRef.optional !== true) {
      throw new EnvironmentError(`configmap "${source.configMapRef.name}" not found`);
    }
    return found?.data ?? {};
  }
  if (source.secretRef === undefined) return {};
  const found = await sources.secret(source.secretRef.name);
  if (found === undefined && source.secretRef.optional !== true) {
    throw new EnvironmentError(`secret "${source.secretRef.name}" not found`);
  }
  return Object.fromEntries(
    Object.entries(found?.data ?? {}).map(([k, v]) => [k, decodeBase64(v)]),
  );
}

async function valueOf(
  pod: Pod,
  container: ContainerSpec,
  variable: EnvVar,
  sources: EnvironmentSources,
): Promise<string | undefined> {
  const from = variable.valueFrom;
  if (from === undefined) return variable.value ?? '';
  if (from.fieldRef !== undefined) return fieldOf(pod, from.fieldRef.fieldPath, sources);
  if (from.resourceFieldRef !== undefined) {
    return resourceOf(container, from.resourceFieldRef.resource);
  }
  return valueOfKey(pod, from, sources);
}

async function valueOfKey(
  pod: Pod,
  from: NonNullable<EnvVar['valueFrom']>,
  sources: EnvironmentSources,
): Promise<string | undefined> {
  const key = from.configMapKeyRef ?? from.secretKeyRef;
  if (key === undefined) return '';
  const isSecret = from.configMapKeyRef === undefined;
  const found = isSecret ? await sources.secret(key.name) : await sources.configMap(key.name);
  const value = found?.data?.[key.key];
  if (value === undefined && key.optional !== true) {
    const object = `${isSecret ? 'Secret' : 'ConfigMap'} ${pod.metadata.namespace ?? ''}/${key.name}`;
    throw new EnvironmentError(`couldn't find key ${key.key} in ${object}`);
  }
  return isSecret && value !== undefined ? decodeBase64(value) : value;
}

/** The downward API's fields. Throws EnvironmentError for one that it does not have. */
export function fieldOf(
  pod: Pod,
  fieldPath: string,
  addresses: { readonly podIps: readonly string[]; readonly hostIps: readonly string[] },
): string {
  const subscript = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(fieldPath);
  if (subscript?.[2] !== undefined) {
    const map = subscript[1] === 'labels' ? pod.metadata.labels : pod.metadata.annotations;
    return map?.[subscript[2]] ?? '';
  }
  const { metadata, spec } = pod;
  const fields = new Map<string, string | undefined>([
    ['metadata.name', metadata.name],
    ['metadata.namespace', metadata.namespace],
    ['metadata.uid', metadata.uid],
    ['metadata.labels', formatMap(metadata.labels)],
    ['metadata.annotations', formatMap(metadata.annotations)],
    ['spec.nodeName', spec.nodeName],
    ['spec.serviceAccountName', spec.serviceAccountName ?? 'default'],
    ['status.podIP', addresses.podIps[0]],
    ['status.podIPs', addresses.podIps.join(',')],
    ['status.hostIP', addresses.hostIps[0]],
    ['status.hostIPs', addresses.hostIps.join(',')],
  ]);
  if (!fields.has(fieldPath)) throw new EnvironmentError(`unsupported fieldPath: ${fieldPath}`);
  return fields.get(fieldPath) ?? '';
}

/** Declared resources; without a limit, what the sandbox pretends a node can give. */
export function resourceOf(container: ContainerSpec | undefined, resource: string): string {
  const dot = resource.indexOf('.');
  const kind = resource.slice(0, dot);
  const name = resource.slice(dot + 1);
  const declared =
    kind === 'limits' ? container?.resources?.limits : container?.resources?.requests;
  const value = declared?.[name];
  if (value === undefined) return kind === 'limits' && name === 'cpu' ? '1' : '0';
  return String(name === 'cpu' ? Math.ceil(parseQuantity(value)) : parseQuantity(value));
}

const quantitySuffixes = new Map([
  ['m', 1e-3],
  ['', 1],
  ['k', 1e3],
  ['M', 1e6],
  ['G', 1e9],
  ['T', 1e12],
  ['Ki', 2 ** 10],
  ['Mi', 2 ** 20],
  ['Gi', 2 ** 30],
  ['Ti', 2 ** 40],
]);

function parseQuantity(text: string): number {
  const match = /^([0-9.]+)([a-zA-Z]*)$/.exec(text);
  return Number(match?.[1] ?? 0) * (quantitySuffixes.get(match?.[2] ?? '') ?? 1);
}

function formatMap(map: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(map ?? {})
    .toSorted(([a], [b]) => a.localeCompare(b))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n');
}

export function decodeBase64(text: string): string {
  return Buffer.from(text, 'base64').toString('utf8');
}

function serviceLinks(services: readonly Service[]): [string, string][] {
  return services.flatMap((service) => {
    const ip = service.spec.clusterIP;
    const first = service.spec.ports?.[0];
    if (ip === undefined || ip === 'None' || ip === '' || first === undefined) return [];
    const prefix = service.metadata.name.toUpperCase().replaceAll('-', '_');
    return [
      [`${prefix}_SERVICE_HOST`, ip],
      [`${prefix}_SERVICE_PORT`, String(first.port)],
    ];
  });
}

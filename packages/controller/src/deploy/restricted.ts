import { field, list, text } from '../kube/decode/fields.ts';

/**
 * What a pod asks for that its namespace's owner could not get by a Gateway: rights on a node (the `restricted` profile of
 * Kubernetes' Pod Security Standards, with nothing left to defaults), and Secrets, which who may write a ConfigMap need not
 * be allowed to read.
 */
export function podProblems(pod: unknown): readonly string[] {
  const volumes = list(field(pod, 'volumes')).flatMap(volumeProblems);
  const containers = ['initContainers', 'containers', 'ephemeralContainers'].flatMap((name) =>
    list(field(pod, name)).flatMap((one) => containerProblems(one, field(pod, 'securityContext'))),
  );
  return [
    ...(['hostNetwork', 'hostPID', 'hostIPC'] as const)
      .filter((name) => field(pod, name) === true)
      .map((name) => `spec.template.spec.${name} is not allowed`),
    ...(text(field(pod, 'priorityClassName')).startsWith('system-')
      ? ['a priority class of the system is not allowed']
      : []),
    ...securityProblems(field(pod, 'securityContext')).map((one) => `the pod must run ${one}`),
    ...volumes,
    ...containers,
  ];
}

const volumeTypes: ReadonlySet<string> = new Set([
  'configMap',
  'downwardAPI',
  'emptyDir',
  'ephemeral',
  'persistentVolumeClaim',
  'projected',
]);

function volumeProblems(volume: unknown): string[] {
  const types = Object.keys(volume ?? {}).filter((name) => name !== 'name');
  const ofSecrets = list(field(volume, 'projected', 'sources')).some(
    (source) => field(source, 'secret') !== undefined,
  );
  return [
    ...types
      .filter((type) => !volumeTypes.has(type))
      .map((type) => `a volume of type ${type} is not allowed`),
    ...(ofSecrets ? ['a volume with a Secret is not allowed'] : []),
  ];
}

function containerProblems(container: unknown, ofPod: unknown): string[] {
  const own = field(container, 'securityContext');
  const either = (...path: readonly string[]): unknown =>
    field(own, ...path) ?? field(ofPod, ...path);
  const dropped = list(field(own, 'capabilities', 'drop'));
  const privileges = [
    ...securityProblems(own),
    ...(field(own, 'allowPrivilegeEscalation') === false
      ? []
      : ['without privileges (allowPrivilegeEscalation: false)']),
    ...(dropped.includes('ALL') ? [] : ['without privileges (capabilities.drop: [ALL])']),
    ...(either('runAsNonRoot') === true ? [] : ['without privileges (runAsNonRoot: true)']),
    ...(isConfined(either('seccompProfile', 'type'))
      ? []
      : ['without privileges (seccompProfile.type: RuntimeDefault)']),
  ];
  const reads =
    list(field(container, 'env')).some(
      (one) => field(one, 'valueFrom', 'secretKeyRef') !== undefined,
    ) || list(field(container, 'envFrom')).some((one) => field(one, 'secretRef') !== undefined);
  const name = text(field(container, 'name'));
  return [
    ...privileges.map((how) => `container ${name} must run ${how}`),
    ...(reads ? [`container ${name}: a variable from a Secret is not allowed`] : []),
    ...(list(field(container, 'ports')).some((one) => (field(one, 'hostPort') ?? 0) !== 0)
      ? [`container ${name}: hostPort is not allowed`]
      : []),
  ];
}

/** Of a pod or a container: what is asked for beyond the ordinary. */
function securityProblems(security: unknown): string[] {
  const seLinux = field(security, 'seLinuxOptions');
  const appArmor = field(security, 'appArmorProfile', 'type');
  const seccomp = field(security, 'seccompProfile', 'type');
  const asked: readonly (readonly [string, boolean])[] = [
    ['privileged', field(security, 'privileged') === true],
    ['allowPrivilegeEscalation', field(security, 'allowPrivilegeEscalation') === true],
    ['runAsNonRoot: false', field(security, 'runAsNonRoot') === false],
    ['runAsUser: 0', field(security, 'runAsUser') === 0],
    ['hostProcess', field(security, 'windowsOptions', 'hostProcess') === true],
    ['capabilities.add', list(field(security, 'capabilities', 'add')).length > 0],
    ['procMount', (field(security, 'procMount') ?? 'Default') !== 'Default'],
    ['appArmorProfile', appArmor !== undefined && !isConfined(appArmor)],
    ['seccompProfile', seccomp !== undefined && !isConfined(seccomp)],
    ['seLinuxOptions', seLinux !== undefined && !isOrdinary(seLinux)],
  ];
  return asked.filter(([, is]) => is).map(([what]) => `without privileges, and asks for ${what}`);
}

function isConfined(type: unknown): boolean {
  return type === 'RuntimeDefault' || type === 'Localhost';
}

const containerTypes: ReadonlySet<unknown> = new Set([
  undefined,
  '',
  'container_t',
  'container_init_t',
  'container_kvm_t',
  'container_engine_t',
]);

function isOrdinary(seLinux: unknown): boolean {
  return (
    containerTypes.has(field(seLinux, 'type')) &&
    text(field(seLinux, 'user')) === '' &&
    text(field(seLinux, 'role')) === ''
  );
}

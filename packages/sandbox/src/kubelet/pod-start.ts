import { readdirSync, readlinkSync } from 'node:fs';
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ContainerSpec, Pod } from '../cluster/objects.ts';
import { resources } from '../cluster/store.ts';
import { WaitingError, type StartPlan } from './container.ts';
import { planRoot, type MachineFiles, type RootMount } from './container-root.ts';
import { expand, resolveEnvironment } from './environment.ts';
import { safeRelative } from './files.ts';
import { resolveImage } from './images.ts';
import type { NodeContext } from './node-context.ts';
import { hostnameOf, hostsFile, resolvConf } from './pod-files.ts';
import { systemPath } from './process.ts';

export interface StartInputs {
  readonly node: NodeContext;
  readonly pod: Pod;
  readonly directory: string;
  readonly netns: string;
  readonly ips: readonly string[];
  readonly volumes: ReadonlyMap<string, string>;
}

const machine: MachineFiles = {
  list(path) {
    try {
      return readdirSync(path);
    } catch {
      return undefined;
    }
  },
  link(path) {
    try {
      return readlinkSync(path);
    } catch {
      return undefined;
    }
  },
};

/** Works out what one start of a container runs, with which environment and root. */
export async function planStart(inputs: StartInputs, container: ContainerSpec): Promise<StartPlan> {
  const { node, pod, directory, ips } = inputs;
  const image = resolveImage(node.images, container);
  if ('unknown' in image) throw new WaitingError('ErrImagePull', image.unknown);
  const namespace = pod.metadata.namespace ?? '';
  const declared = await resolveEnvironment(pod, container, {
    configMap: (name) => node.store.get(resources.configMaps, namespace, name),
    secret: (name) => node.store.get(resources.secrets, namespace, name),
    podIps: ips,
    hostIps: node.ips,
    services:
      pod.spec.enableServiceLinks === false
        ? []
        : await node.store.list(resources.services, { namespace }),
  });
  const hostname = hostnameOf(pod, node.name);
  const env = new Map<string, string>([
    ['PATH', systemPath],
    ['HOME', '/root'],
    ['HOSTNAME', hostname],
    ['KUBERNETES_SERVICE_HOST', node.api.host],
    ['KUBERNETES_SERVICE_PORT', String(node.api.port)],
    ['KUBERNETES_SERVICE_PORT_HTTPS', String(node.api.port)],
    ...Object.entries(image.env),
    ...declared,
  ]);
  const files = new Map([
    ['/etc/resolv.conf', await resolvConf(pod, node)],
    ['/etc/hosts', hostsFile(pod, ips, hostname)],
    ['/etc/hostname', `${hostname}\n`],
  ]);
  const copies = new Map<string, string>();
  for (const [target, content] of files) {
    const source = join(directory, target.replaceAll('/', '_'));
    await writeFile(source, content);
    copies.set(target, source);
  }
  const mounts = await mountsOf(inputs, container);
  // Copies replace files of /etc, so these must not show through.
  const plan = planRoot(machine, [
    ...node.shared.map((path) => ({
      source: path,
      target: path,
      kind: 'directory' as const,
      readOnly: true,
    })),
    ...mounts,
    ...Array.from(copies, ([target, source]) => fileMount(source, target)),
  ]);
  return {
    argv: image.argv.map((word) => expand(word, env)),
    env,
    workingDir: image.workingDir ?? '/',
    netns: inputs.netns,
    ownHostname: pod.spec.hostNetwork !== true,
    root: {
      plan: { ...plan, mounts: plan.mounts.filter((mount) => !copies.has(mount.target)) },
      hidden: node.hidden,
      copies,
      hostname: pod.spec.hostNetwork === true ? undefined : hostname,
    },
  };
}

function fileMount(source: string, target: string): RootMount {
  return { source, target, kind: 'file', readOnly: false };
}

async function mountsOf(inputs: StartInputs, container: ContainerSpec): Promise<RootMount[]> {
  const declared = container.volumeMounts ?? [];
  const mounts: RootMount[] = [];
  for (const mount of declared) {
    const volume = inputs.volumes.get(mount.name);
    if (volume === undefined) {
      throw new WaitingError(
        'CreateContainerConfigError',
        `volumeMount "${mount.name}" names no volume of the pod`,
      );
    }
    const source =
      mount.subPath === undefined || mount.subPath === ''
        ? volume
        : join(volume, safeRelative(mount.subPath));
    const found = await stat(source).catch(() => undefined);
    if (found === undefined) {
      throw new WaitingError(
        'CreateContainerConfigError',
        `subPath "${mount.subPath ?? ''}" is not in volume "${mount.name}"`,
      );
    }
    mounts.push({
      source,
      target: mount.mountPath,
      kind: found.isDirectory() ? 'directory' : 'file',
      readOnly: mount.readOnly === true,
    });
  }
  return mounts;
}

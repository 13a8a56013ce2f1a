import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Pod } from '../cluster/objects.ts';
import { run, runToEnd } from '../net/command.ts';
import { attach, detach, type CniPaths } from './cni.ts';

export interface PodSandbox {
  readonly id: string;
  /** File of the pod's network namespace, as the machine sees it. */
  readonly netns: string;
  readonly ips: readonly string[];
  /** Detaches the pod from the network and ends its namespace. Throws when a plugin refuses; may be repeated. */
  remove(): Promise<void>;
}

export interface SandboxOptions {
  readonly pod: Pod;
  readonly cni: CniPaths;
  /** The node's directory of namespace files, and the path by which the node's own processes know it. */
  readonly netnsDirectory: string;
  readonly netnsDirectoryOnNode: string;
}

/** Makes a pod's network namespace and attaches it by the node's CNI chain. Leaves nothing when that fails. */
export async function createPodSandbox(options: SandboxOptions): Promise<PodSandbox> {
  const id = randomBytes(32).toString('hex');
  const file = `cni-${id.slice(0, 16)}`;
  const netns = join(options.netnsDirectory, file);
  const attachment = {
    containerId: id,
    netns: join(options.netnsDirectoryOnNode, file),
    podName: options.pod.metadata.name,
    podNamespace: options.pod.metadata.namespace ?? '',
    podUid: options.pod.metadata.uid ?? '',
  };
  await mkdir(options.netnsDirectory, { recursive: true });
  await writeFile(netns, '');
  await run('unshare', [`--net=${netns}`, '--', 'true']);
  const removeNamespace = async (): Promise<void> => {
    await runToEnd('umount', ['-l', netns]);
    await rm(netns, { force: true });
  };
  try {
    const result = await attach(options.cni, attachment);
    const ips = (result.ips ?? []).map((ip) => ip.address.split('/')[0] ?? '');
    return {
      id,
      netns,
      ips,
      async remove() {
        await detach(options.cni, attachment);
        await removeNamespace();
      },
    };
  } catch (error) {
    // The specification asks for DEL after a failed ADD; what it says changes nothing about the failure.
    await detach(options.cni, attachment).catch(() => undefined);
    await removeNamespace();
    throw error;
  }
}

import { createHash } from 'node:crypto';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import type {
  ConfigMap,
  DownwardItem,
  KeyToPath,
  Pod,
  ProjectedSource,
  Secret,
  VolumeSpec,
} from '../cluster/objects.ts';
import { resources, type ClusterStore } from '../cluster/store.ts';
import { fieldOf, resourceOf } from './environment.ts';
import { writeFilesAtomically } from './files.ts';

export interface PodTokenRequest {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Absent means the API's own audience. */
  readonly audiences?: readonly string[];
  readonly expirationSeconds: number;
  readonly boundPod: { readonly name: string; readonly uid: string };
}

/** Signs service-account tokens, as the API's TokenRequest does. */
export interface TokenIssuer {
  mint(request: PodTokenRequest): { readonly token: string; readonly expiresAtMs: number };
}

export interface VolumeContext {
  readonly store: ClusterStore;
  readonly tokens: TokenIssuer;
  /** Root of the node's own files: hostPath volumes are below it. */
  readonly nodeRoot: string;
  /** Where this pod's volumes are made. */
  readonly directory: string;
  readonly addresses: () => { podIps: readonly string[]; hostIps: readonly string[] };
}

/** A volume that cannot be made yet; the pod waits for it. */
export class VolumeError extends Error {
  readonly code = 'kubelet/failed-mount';
}

/** Paths that are the machine's and not a node's. */
const machinePaths = ['/proc', '/sys', '/dev', '/lib/modules'];

interface HeldToken {
  readonly token: string;
  readonly refreshAtMs: number;
}

export interface PodVolumes {
  /** Directories or files of the machine by volume name. Throws VolumeError while something is missing. */
  prepare(pod: Pod): Promise<Map<string, string>>;
  /** Brings changed ConfigMaps, Secrets, metadata and ageing tokens into running containers. */
  refresh(pod: Pod): Promise<void>;
}

export function createPodVolumes(
  context: VolumeContext,
  volumes: readonly VolumeSpec[],
): PodVolumes {
  const tokens = new Map<string, HeldToken>();
  const written = new Map<string, string>();

  async function project(pod: Pod, volume: VolumeSpec): Promise<string> {
    const directory = join(context.directory, volume.name);
    const files = new Map<string, Buffer | string>();
    for (const source of sourcesOf(volume)) {
      const added = await filesOf(context, pod, source, { tokens, volume: volume.name });
      for (const [path, content] of added) files.set(path, content);
    }
    const digest = digestOf(files);
    if (written.get(volume.name) === digest) return directory;
    await writeFilesAtomically(directory, files);
    written.set(volume.name, digest);
    return directory;
  }

  return {
    async prepare(pod) {
      const paths = new Map<string, string>();
      for (const volume of volumes) {
        if (volume.hostPath !== undefined) {
          paths.set(volume.name, await hostPath(context.nodeRoot, volume.hostPath));
        } else if (sourcesOf(volume).length > 0 || volume.projected !== undefined) {
          paths.set(volume.name, await project(pod, volume));
        } else if (volume.emptyDir !== undefined) {
          const directory = join(context.directory, volume.name);
          await mkdir(directory, { recursive: true });
          paths.set(volume.name, directory);
        } else {
          throw new VolumeError(
            `volume "${volume.name}" is of a kind the sandbox does not have: use projected, configMap, secret, downwardAPI, emptyDir or hostPath`,
          );
        }
      }
      return paths;
    },
    async refresh(pod) {
      for (const volume of volumes) if (sourcesOf(volume).length > 0) await project(pod, volume);
    },
  };
}

function sourcesOf(volume: VolumeSpec): ProjectedSource[] {
  if (volume.projected !== undefined) return volume.projected.sources ?? [];
  if (volume.configMap !== undefined) return [{ configMap: volume.configMap }];
  if (volume.downwardAPI !== undefined) return [{ downwardAPI: volume.downwardAPI }];
  if (volume.secret === undefined) return [];
  const { secretName, ...rest } = volume.secret;
  return [{ secret: { ...rest, ...(secretName === undefined ? {} : { name: secretName }) } }];
}

async function filesOf(
  context: VolumeContext,
  pod: Pod,
  source: ProjectedSource,
  held: { tokens: Map<string, HeldToken>; volume: string },
): Promise<Map<string, Buffer | string>> {
  const namespace = pod.metadata.namespace ?? '';
  if (source.configMap !== undefined) {
    const found = await context.store.get(
      resources.configMaps,
      namespace,
      source.configMap.name ?? '',
    );
    return pickKeys(
      `configmap "${source.configMap.name ?? ''}"`,
      configMapData(found),
      source.configMap,
    );
  }
  if (source.secret !== undefined) {
    const found = await context.store.get(resources.secrets, namespace, source.secret.name ?? '');
    return pickKeys(`secret "${source.secret.name ?? ''}"`, secretData(found), source.secret);
  }
  if (source.downwardAPI !== undefined)
    return downward(context, pod, source.downwardAPI.items ?? []);
  if (source.serviceAccountToken === undefined) return new Map();
  const { path, audience, expirationSeconds } = source.serviceAccountToken;
  const key = `${held.volume}/${path}`;
  const current = held.tokens.get(key);
  if (current !== undefined && Date.now() < current.refreshAtMs)
    return new Map([[path, current.token]]);
  const token = issue(context, pod, audience, expirationSeconds ?? 3600);
  held.tokens.set(key, token);
  return new Map([[path, token.token]]);
}

function issue(
  context: VolumeContext,
  pod: Pod,
  audience: string | undefined,
  expirationSeconds: number,
): HeldToken {
  const now = Date.now();
  const { token, expiresAtMs } = context.tokens.mint({
    namespace: pod.metadata.namespace ?? '',
    serviceAccount: pod.spec.serviceAccountName ?? 'default',
    ...(audience === undefined ? {} : { audiences: [audience] }),
    expirationSeconds,
    boundPod: { name: pod.metadata.name, uid: pod.metadata.uid ?? '' },
  });
  // Kubelets refresh at 80 % of a token's life.
  return { token, refreshAtMs: now + (expiresAtMs - now) * 0.8 };
}

function configMapData(found: ConfigMap | undefined): Map<string, Buffer | string> | undefined {
  if (found === undefined) return undefined;
  return new Map<string, Buffer | string>([
    ...Object.entries(found.data ?? {}),
    ...Object.entries(found.binaryData ?? {}).map(
      ([k, v]) => [k, Buffer.from(v, 'base64')] as const,
    ),
  ]);
}

function secretData(found: Secret | undefined): Map<string, Buffer | string> | undefined {
  if (found === undefined) return undefined;
  return new Map(Object.entries(found.data ?? {}).map(([k, v]) => [k, Buffer.from(v, 'base64')]));
}

function pickKeys(
  what: string,
  data: ReadonlyMap<string, Buffer | string> | undefined,
  options: { items?: KeyToPath[]; optional?: boolean },
): Map<string, Buffer | string> {
  if (data === undefined) {
    if (options.optional === true) return new Map();
    throw new VolumeError(`${what} not found`);
  }
  if (options.items === undefined) return new Map(data);
  const picked = new Map<string, Buffer | string>();
  for (const { key, path } of options.items) {
    const content = data.get(key);
    if (content !== undefined) picked.set(path, content);
    else if (options.optional !== true) throw new VolumeError(`${what} has no key "${key}"`);
  }
  return picked;
}

function downward(
  context: VolumeContext,
  pod: Pod,
  items: readonly DownwardItem[],
): Map<string, string> {
  return new Map(
    items.map((item) => {
      if (item.fieldRef !== undefined) {
        return [item.path, fieldOf(pod, item.fieldRef.fieldPath, context.addresses())];
      }
      const container = pod.spec.containers.find(
        (c) => c.name === item.resourceFieldRef?.containerName,
      );
      return [item.path, resourceOf(container, item.resourceFieldRef?.resource ?? '')];
    }),
  );
}

/** A hostPath is a path of the node: below the node's root, made if its type says so. */
async function hostPath(
  nodeRoot: string,
  source: { path: string; type?: string },
): Promise<string> {
  const clean = normalize(source.path).replace(/^\/run(?=\/|$)/, '/var/run');
  if (machinePaths.some((path) => clean === path || clean.startsWith(`${path}/`))) return clean;
  const path = join(nodeRoot, clean);
  const found = await stat(path).catch(() => undefined);
  if (found !== undefined) return path;
  switch (source.type ?? '') {
    case '':
    case 'DirectoryOrCreate':
      await mkdir(path, { recursive: true });
      return path;
    case 'FileOrCreate':
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, '', { flag: 'a' });
      return path;
    default:
      throw new VolumeError(
        `hostPath type check failed: ${source.path} is not a ${source.type ?? ''}`,
      );
  }
}

function digestOf(files: ReadonlyMap<string, Buffer | string>): string {
  const hash = createHash('sha256');
  for (const [path, content] of files) {
    hash.update(`${path.length}:${path}:${content.length}:`).update(content);
  }
  return hash.digest('hex');
}

import type { TourPod } from '@ambit/sandbox';
import type { MeshCluster } from './cluster.ts';
import { until } from './cluster.ts';

const path = '/apis/apps/v1/namespaces/istio-system/daemonsets/cni-redirect';

interface PodTemplate {
  readonly volumes: readonly { readonly name: string; readonly hostPath?: { path: string } }[];
  readonly containers: readonly {
    readonly name: string;
    readonly env: readonly { readonly name: string; readonly value?: string }[];
  }[];
}

interface DaemonSet {
  readonly metadata: { readonly generation: number };
  readonly spec: { readonly template: { readonly spec: PodTemplate } };
  readonly status: {
    readonly observedGeneration: number;
    readonly desiredNumberScheduled: number;
    readonly updatedNumberScheduled?: number;
    readonly numberAvailable?: number;
  };
}

/** The node agents of a mesh in a real Kubernetes, as an administrator changes them. */
export class Agents {
  readonly #mesh: MeshCluster;

  constructor(mesh: MeshCluster) {
    this.#mesh = mesh;
  }

  async pods(): Promise<TourPod[]> {
    const pods = await this.#mesh.cluster.pods('istio-system');
    return pods.filter(({ labels }) => labels.get('app') === 'cni-redirect');
  }

  /** The DaemonSet stays and no node has an agent, as for a moment of every upgrade. */
  async takeAway(): Promise<void> {
    await this.#patchTemplate({ nodeSelector: { 'ambit.dev/nowhere': 'true' } });
    await until(async () => ((await this.pods()).length === 0 ? true : undefined), 60_000);
  }

  async bringBack(): Promise<void> {
    await this.#patchTemplate({ nodeSelector: { 'ambit.dev/nowhere': null } });
    await this.ready();
  }

  async ready(): Promise<void> {
    await until(async () => {
      const { metadata, status } = await this.#get();
      const { desiredNumberScheduled: wanted } = status;
      const all = [status.updatedNumberScheduled, status.numberAvailable];
      const seen = status.observedGeneration >= metadata.generation;
      return (seen && wanted > 0 && all.every((count) => count === wanted)) || undefined;
    }, 120_000);
  }

  async setVolume(name: string, hostPath: string): Promise<void> {
    const { volumes } = (await this.#get()).spec.template.spec;
    await this.#patchTemplate({
      volumes: volumes.map((volume) =>
        volume.name === name
          ? { name, hostPath: { path: hostPath, type: 'DirectoryOrCreate' } }
          : volume,
      ),
    });
  }

  async setEnv(name: string, value: string): Promise<void> {
    const { containers } = (await this.#get()).spec.template.spec;
    await this.#patchTemplate({
      containers: containers.map((container) => ({
        ...container,
        env: [...container.env.filter((one) => one.name !== name), { name, value }],
      })),
    });
  }

  async #get(): Promise<DaemonSet> {
    return (await this.#mesh.get(path)) as DaemonSet;
  }

  #patchTemplate(spec: object): Promise<void> {
    return this.#mesh.patch(path, { spec: { template: { spec } } });
  }
}

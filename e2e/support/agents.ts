import type { TourPod } from '@ambit/sandbox';
import type { MeshCluster } from './cluster.ts';
import { until } from './cluster.ts';
import { kubectl } from './kubectl.ts';

const daemonSet = '/apis/apps/v1/namespaces/istio-system/daemonsets/cni-redirect';

const nowhere = 'ambit.dev/nowhere';

interface PodTemplate {
  readonly volumes: readonly { readonly name: string; readonly hostPath?: { path: string } }[];
  readonly containers: readonly {
    readonly name: string;
    readonly env: readonly { readonly name: string; readonly value?: string }[];
  }[];
}

interface DaemonSet {
  readonly metadata: {
    readonly generation: number;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
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
  /** As it was before the first change. */
  #before: PodTemplate | undefined;
  /** The DaemonSet that was deleted, as it was. */
  #deleted: object | undefined;

  constructor(mesh: MeshCluster) {
    this.#mesh = mesh;
  }

  async pods(): Promise<TourPod[]> {
    const pods = await this.#mesh.cluster.pods('istio-system');
    return pods.filter(({ labels }) => labels.get('app') === 'cni-redirect');
  }

  /** The names of the nodes that have one. */
  async nodes(): Promise<string[]> {
    return [...new Set((await this.pods()).map(({ node }) => node))].sort();
  }

  /** The DaemonSet stays and no node has an agent, as for a moment of every upgrade. */
  async takeAway(): Promise<void> {
    await this.#patchTemplate({ nodeSelector: { [nowhere]: 'true' } });
    // One that is ending still answers.
    const path = '/api/v1/namespaces/istio-system/pods?labelSelector=app%3Dcni-redirect';
    await until(async () => {
      const { items } = (await this.#mesh.get(path)) as { readonly items: readonly unknown[] };
      return items.length === 0 || undefined;
    }, 60_000);
  }

  /** As somebody does it by mistake. */
  async deleteSet(): Promise<void> {
    const { metadata, spec } = await this.#get();
    const { labels, annotations } = metadata;
    this.#deleted = {
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata: { name: 'cni-redirect', namespace: 'istio-system', labels, annotations },
      spec,
    };
    const words = ['delete', 'daemonset', 'cni-redirect', '-n', 'istio-system'];
    kubectl(this.#mesh.kubeconfig, [...words, '--cascade=foreground', '--timeout=120s']);
  }

  async bringBack(): Promise<void> {
    await this.#patchTemplate({ nodeSelector: { [nowhere]: null } });
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

  /** Puts back what was changed, and waits for what comes of it. */
  async restore(): Promise<void> {
    if (this.#deleted !== undefined) {
      kubectl(this.#mesh.kubeconfig, ['create', '-f', '-'], JSON.stringify(this.#deleted));
      this.#deleted = undefined;
      await this.ready();
    }
    if (this.#before === undefined) return;
    const { volumes, containers } = this.#before;
    await this.#patchTemplate({ nodeSelector: { [nowhere]: null }, volumes, containers });
    await this.ready();
    this.#before = undefined;
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
    return (await this.#mesh.get(daemonSet)) as DaemonSet;
  }

  async #patchTemplate(spec: object): Promise<void> {
    this.#before ??= (await this.#get()).spec.template.spec;
    await this.#mesh.patch(daemonSet, { spec: { template: { spec } } });
  }
}

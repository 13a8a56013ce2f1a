import type { MeshCluster } from './cluster.ts';

interface Taint {
  readonly key: string;
  readonly value?: string;
  readonly effect: string;
}

/** One taint of some nodes; those that are there for other reasons stay. */
export class NodeTaints {
  readonly #mesh: MeshCluster;
  readonly #taint: Taint;

  constructor(mesh: MeshCluster, taint: Taint) {
    this.#mesh = mesh;
    this.#taint = taint;
  }

  async put(nodes: readonly string[]): Promise<void> {
    for (const node of nodes) await this.#set(node, [...(await this.#others(node)), this.#taint]);
  }

  async take(nodes: readonly string[]): Promise<void> {
    for (const node of nodes)
      if (await this.has(node)) await this.#set(node, await this.#others(node));
  }

  async has(node: string): Promise<boolean> {
    return (await this.#of(node)).some(({ key }) => key === this.#taint.key);
  }

  /** Those of the nodes that have it. */
  async among(nodes: readonly string[]): Promise<string[]> {
    const found = await Promise.all(
      nodes.map(async (node) => ((await this.has(node)) ? [node] : [])),
    );
    return found.flat();
  }

  async #others(node: string): Promise<Taint[]> {
    return (await this.#of(node)).filter(({ key }) => key !== this.#taint.key);
  }

  async #of(node: string): Promise<readonly Taint[]> {
    const { spec } = (await this.#mesh.get(`/api/v1/nodes/${node}`)) as {
      readonly spec: { readonly taints?: readonly Taint[] };
    };
    return spec.taints ?? [];
  }

  #set(node: string, taints: readonly Taint[]): Promise<void> {
    return this.#mesh.patch(`/api/v1/nodes/${node}`, { spec: { taints } });
  }
}

import { readFile } from 'node:fs/promises';
import { parseAllDocuments } from 'yaml';
import type { TourCluster } from './tour/cluster.ts';

/** Applies every document of a manifest, in order. */
export async function applyManifest(
  cluster: Pick<TourCluster, 'apply'>,
  file: string,
): Promise<void> {
  const text = await readFile(file, 'utf8');
  for (const document of parseAllDocuments(text)) {
    const [problem] = document.errors;
    if (problem !== undefined) throw new Error(`${file}: ${problem.message}`);
    const object: unknown = document.toJS();
    if (typeof object === 'object' && object !== null) await cluster.apply(object);
  }
}

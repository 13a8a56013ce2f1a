import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';

/** The objects of a manifest, or those of the examples of a page in Markdown; the path is from the root. */
export function objectsOf(path: string): object[] {
  const text = readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8');
  const manifests = path.endsWith('.md')
    ? [...text.matchAll(/```yaml\n(.*?)```/gs)].map(([, yaml = '']) => yaml)
    : [text];
  return manifests.flatMap((manifest) =>
    parseAllDocuments(manifest).map((document) => document.toJS() as object),
  );
}

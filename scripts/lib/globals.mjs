// Bundled programs take these from their modules: as globals they are getters, each of whose reads costs 20 to 50 ns.
export { Buffer } from 'node:buffer';
export { performance } from 'node:perf_hooks';

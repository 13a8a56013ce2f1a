import { dirname, join } from 'node:path';
import type { ImageCatalogue } from './cluster/index.ts';
import { samplesImage } from './cluster/index.ts';

/** What the images of the mesh and the samples stand for on this machine: the bundles of the clone. */
export function sandboxImages(root: string, logLevel: string): ImageCatalogue {
  const program = (name: string, flags: readonly string[] = ['--enable-source-maps']): string[] => [
    process.execPath,
    ...flags,
    join(root, 'dist/programs', `${name}.mjs`),
  ];
  const env = { LOG_LEVEL: logLevel, PATH: `${dirname(process.execPath)}:${systemPath}` };
  return [
    { name: 'ambit/controller', command: program('controller', controllerFlags), env },
    { name: 'ambit/ztunnel', command: program('ztunnel'), env },
    { name: 'ambit/waypoint', command: program('waypoint'), env },
    {
      name: 'ambit/cni-redirect',
      command: program('cni-agent'),
      env: { ...env, PLUGIN_SOURCE: pluginFile },
    },
    samplesImage(root),
  ];
}

/** As images/controller/Dockerfile has them. */
const controllerFlags = ['--max-semi-space-size=4', '--heap-growing-percent=50'];

const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The plugin's executable, made at start: on a real node it is a binary in the agent's image. */
export const pluginFile = '/var/lib/ambit-plugin/ambit-cni';

// Builds the container images without Docker: the last stage of each images/<program>/Dockerfile, with the pinned Node
// and this machine's libraries as the base. Writes dist/images/<program>.tar; the same input gives the same digest.
//   node scripts/images.mjs [PROGRAM …]     all of images/ when none is named
//   --tag TAG                               instead of the version in package.json
import { mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle } from './bundle.mjs';
import { readDockerfile } from './lib/dockerfile.mjs';
import { addProgram, addTree, archiveOf, imagePath, layerOf, whichProgram } from './lib/image.mjs';
import { orExplain, Unmet } from './lib/ensure.mjs';
import { readOptions } from './lib/options.mjs';
import { continueInPinnedNode, pinnedNode } from './lib/toolchain.mjs';
import { buildPlugin } from './plugin.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Programs that an image takes from a Debian package, and other names of them. */
const programsOf = new Map([
  ['nftables', ['nft']],
  ['iproute2', ['ip']],
  ['curl', ['curl']],
  ['dash', ['dash']],
  [
    'coreutils',
    [
      'cat',
      'cp',
      'cut',
      'date',
      'echo',
      'env',
      'false',
      'head',
      'id',
      'ls',
      'mkdir',
      'mv',
      'printf',
      'rm',
      'seq',
      'sleep',
      'sort',
      'tail',
      'test',
      'timeout',
      'touch',
      'tr',
      'true',
      'uniq',
      'wc',
    ],
  ],
  ['grep', ['grep']],
  ['sed', ['sed']],
  ['procps', ['kill', 'ps']],
]);
const otherNames = new Map([['dash', '/bin/sh']]);

export function imageNames() {
  return readdirSync(join(root, 'images'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();
}

/** Builds one image from bundles that are there. */
export function imageOf(name, tag, base) {
  const file = join(root, 'images', name, 'Dockerfile');
  const image = readDockerfile(readFileSync(file, 'utf8'), `images/${name}/Dockerfile`);
  const layers = [base];
  if (image.packages.length > 0) layers.push(packagesLayer(image.packages));
  for (const copy of image.copies) layers.push(copyLayer(copy));
  return archiveOf({
    repository: `ambit/${name}`,
    tag,
    config: {
      User: image.user,
      Env: Object.entries({ PATH: imagePath, ...image.env }).map(
        ([key, value]) => `${key}=${value}`,
      ),
      ...(image.entrypoint === undefined ? {} : { Entrypoint: image.entrypoint }),
      ...(image.command === undefined ? {} : { Cmd: image.command }),
      WorkingDir: image.workdir,
      Labels: image.labels,
    },
    layers,
  });
}

/** The pinned Node, what it needs of the system, and the files that every program may look for. */
export function baseLayer() {
  const entries = new Map();
  addProgram(entries, pinnedNode(), '/usr/local/bin/node');
  const text = (lines) => ({ data: Buffer.from(`${lines.join('\n')}\n`) });
  entries.set(
    'etc/passwd',
    text(['root:x:0:0:root:/:/sbin/nologin', 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin']),
  );
  entries.set('etc/group', text(['root:x:0:', 'nonroot:x:65532:']));
  entries.set('etc/nsswitch.conf', text(['hosts: files dns']));
  entries.set('tmp', { directory: true, mode: 0o1777 });
  return { ...layerOf(entries), comment: `Node ${process.version}` };
}

function packagesLayer(packages) {
  const entries = new Map();
  for (const name of packages) {
    for (const program of programsOf.get(name) ??
      missing(`images know no programs of the package ${name}`)) {
      const file = whichProgram(program) ?? missing(`${program} is not installed; install ${name}`);
      addProgram(entries, file, `/usr/bin/${program}`);
      const other = otherNames.get(program);
      if (other !== undefined) entries.set(other.slice(1), { link: `/usr/bin/${program}` });
    }
  }
  return { ...layerOf(entries), comment: `packages ${packages.join(' ')}` };
}

function missing(why) {
  throw new Error(why);
}

function copyLayer({ sources, target }) {
  const entries = new Map();
  for (const source of sources) {
    // As in a Dockerfile: of a folder the content is copied.
    const at = source.endsWith('/') ? target : join(target, basename(source));
    addTree(entries, join(root, source), at.replace(/^\/|\/$/g, ''));
  }
  return { ...layerOf(entries), comment: `${sources.join(' ')} -> ${target}` };
}

async function main() {
  const options = readOptions(import.meta.url, { valued: ['--tag'] });
  if (options === undefined) return;
  const version = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version;
  const tag = options.values.get('--tag') ?? version;
  const known = imageNames();
  const wanted = options.words.length > 0 ? options.words : known;
  const strange = wanted.find((name) => !known.includes(name));
  if (strange !== undefined)
    throw new Unmet(`${strange} is not an image; there are ${known.join(', ')}.`);
  await bundle();
  if (wanted.includes('cni-redirect')) await buildPlugin();
  const out = join(root, 'dist/images');
  mkdirSync(out, { recursive: true });
  const base = baseLayer();
  for (const name of wanted) {
    const { archive, digest } = imageOf(name, tag, base);
    const file = join(out, `${name}.tar`);
    writeFileSync(`${file}.tmp`, archive);
    renameSync(`${file}.tmp`, file);
    console.log(`ambit/${name}:${tag} ${digest} ${Math.round(archive.length / 1e6)} MB`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  continueInPinnedNode();
  await orExplain(main);
}

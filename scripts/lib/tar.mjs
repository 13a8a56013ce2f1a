// Writes tar archives that are the same bytes for the same content: sorted, without owners and times.
import { createHash } from 'node:crypto';

const block = 512;

/**
 * An archive of `entries`: a map from path (no leading slash) to `{ mode, data }`, `{ link }` or `{ directory: true }`.
 * Directories on the way are made, with mode 755.
 */
export function tar(entries) {
  const all = new Map();
  for (const path of [...entries.keys()].sort()) {
    const parts = path.split('/');
    for (let depth = 1; depth < parts.length; depth += 1) {
      const folder = parts.slice(0, depth).join('/');
      if (!all.has(folder)) all.set(folder, entries.get(folder) ?? { directory: true });
    }
    all.set(path, entries.get(path));
  }
  const chunks = [];
  for (const [path, entry] of [...all].sort(([a], [b]) => (a < b ? -1 : 1))) {
    chunks.push(header(path, entry));
    if (entry.data === undefined) continue;
    chunks.push(entry.data);
    const rest = entry.data.length % block;
    if (rest > 0) chunks.push(Buffer.alloc(block - rest));
  }
  chunks.push(Buffer.alloc(2 * block));
  return Buffer.concat(chunks);
}

export function sha256(data) {
  return createHash('sha256').update(data).digest('hex');
}

function header(path, { mode, data, link, directory }) {
  const buffer = Buffer.alloc(block);
  const { prefix, name } = split(directory ? `${path}/` : path);
  buffer.write(name, 0, 100);
  octal(mode ?? (directory ? 0o755 : link === undefined ? 0o644 : 0o777), 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(data?.length ?? 0, 124, 12);
  octal(0, 136, 12);
  buffer.write(directory ? '5' : link === undefined ? '0' : '2', 156);
  if (link !== undefined) buffer.write(link, 157, 100);
  buffer.write('ustar\x0000', 257);
  buffer.write(prefix, 345, 155);
  buffer.fill(' ', 148, 156);
  const sum = buffer.reduce((total, byte) => total + byte, 0);
  buffer.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return buffer;

  function octal(value, at, length) {
    buffer.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at);
  }
}

/** Names longer than 100 bytes are cut at a slash, as the format wants. */
function split(path) {
  if (Buffer.byteLength(path) <= 100) return { prefix: '', name: path };
  const at = path.indexOf('/', path.length - 101);
  if (at < 0 || at > 155) throw new Error(`the path ${path} is too long for a tar archive`);
  return { prefix: path.slice(0, at), name: path.slice(at + 1) };
}

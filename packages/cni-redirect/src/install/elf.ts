/**
 * Two changes to a 64-bit little-endian ELF executable that let it run on a host that lacks its libraries: the program
 * that loads it, and where its libraries are looked for. Contract: the System V ABI's object files, as Linux reads them.
 */

/** A file that cannot be changed so. */
export class ElfProblem extends Error {}

interface Segment {
  /** Where the program header itself stands in the file. */
  readonly header: number;
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly fileSize: number;
  readonly memorySize: number;
}

const headBytes = 64;
const pageBytes = 0x1000;
const segmentType = { load: 1, dynamic: 2, interpreter: 3 } as const;
const dynamicTag = { none: 0, stringTable: 5, libraryPath: 15, runPath: 29 } as const;
const dynamicEntryBytes = 16;

/** Reads some bytes of an executable; fewer where it ends before. */
export type ReadImage = (offset: number, length: number) => Buffer;

/** Bytes to be written at a place of the file. */
export interface Patch {
  readonly at: number;
  readonly bytes: Buffer;
}

/** The path of the program that loads the executable; undefined for a static one and for what is no ELF file. */
export function interpreterOf(read: ReadImage): string | undefined {
  if (!isElf(read)) return undefined;
  const segment = segmentsOf(read).find(({ type }) => type === segmentType.interpreter);
  return segment && read(segment.offset, segment.fileSize - 1).toString('latin1');
}

/**
 * What to write into an executable of this size so that it is loaded by the program at this absolute path. The kernel
 * reads the path from the file only, so a longer one can stand at its end.
 */
export function interpreterPatches(read: ReadImage, size: number, path: string): readonly Patch[] {
  if (!path.startsWith('/')) throw new ElfProblem(`${path} is no absolute path`);
  const segment = segmentsOf(read).find(({ type }) => type === segmentType.interpreter);
  if (segment === undefined) throw new ElfProblem('the executable names no interpreter');
  const text = Buffer.from(`${path}\0`, 'latin1');
  return [
    { at: size, bytes: text },
    { at: segment.header + 8, bytes: word(size) },
    { at: segment.header + 32, bytes: word(text.length) },
  ];
}

export function readerOf(image: Buffer): ReadImage {
  return (offset, length) => image.subarray(offset, offset + length);
}

/**
 * The same executable, which looks for its libraries in this directory before all others, also before those of
 * `LD_LIBRARY_PATH`. `$ORIGIN` stands for the executable's own directory.
 */
export function withLibraryPath(image: Buffer, path: string): Buffer {
  const changed = Buffer.from(image);
  const segments = segmentsOf(readerOf(changed));
  const dynamic = segments.find(({ type }) => type === segmentType.dynamic);
  if (dynamic === undefined) throw new ElfProblem('the executable is static');
  const { end, strings } = readDynamic(changed, dynamic);
  // The linker leaves room for a few entries behind the last one.
  const room = changed.subarray(end, end + 2 * dynamicEntryBytes);
  if (room.some((byte) => byte !== 0))
    throw new ElfProblem('the executable has no room for another dynamic entry');
  const address = addText(changed, segments, path, strings);
  changed.writeBigUInt64LE(BigInt(dynamicTag.libraryPath), end);
  changed.writeBigUInt64LE(BigInt(address - strings), end + 8);
  return changed;
}

function isElf(read: ReadImage): boolean {
  const head = read(0, headBytes);
  return head.length === headBytes && head.readUInt32BE(0) === 0x7f454c46;
}

function segmentsOf(read: ReadImage): Segment[] {
  const head = read(0, headBytes);
  if (!isElf(read) || head[4] !== 2 || head[5] !== 1)
    throw new ElfProblem('not a 64-bit little-endian ELF file');
  const start = Number(head.readBigUInt64LE(32));
  const size = head.readUInt16LE(54);
  const table = read(start, size * head.readUInt16LE(56));
  return Array.from({ length: Math.floor(table.length / size) }, (_, index) => {
    const at = index * size;
    const field = (offset: number): number => Number(table.readBigUInt64LE(at + offset));
    return {
      header: start + at,
      type: table.readUInt32LE(at),
      offset: field(8),
      address: field(16),
      fileSize: field(32),
      memorySize: field(40),
    };
  });
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function readDynamic(image: Buffer, { offset }: Segment): { end: number; strings: number } {
  let strings: number | undefined;
  for (let at = offset; ; at += dynamicEntryBytes) {
    const tag = Number(image.readBigUInt64LE(at));
    if (tag === dynamicTag.libraryPath || tag === dynamicTag.runPath)
      throw new ElfProblem('the executable has a library path already');
    if (tag === dynamicTag.stringTable) strings = Number(image.readBigUInt64LE(at + 8));
    if (tag !== dynamicTag.none) continue;
    if (strings === undefined) throw new ElfProblem('the executable has no string table');
    return { end: at, strings };
  }
}

/** Puts a text into the unused rest of a loaded page behind the string table, and tells its address. */
function addText(
  image: Buffer,
  segments: readonly Segment[],
  text: string,
  behind: number,
): number {
  const bytes = Buffer.from(`${text}\0`, 'latin1');
  const loaded = segments.filter(({ type }) => type === segmentType.load);
  for (const segment of loaded) {
    const end = segment.offset + segment.fileSize;
    const rest = (pageBytes - (end % pageBytes)) % pageBytes;
    const taken = loaded.some(({ offset }) => offset >= end && offset < end + rest);
    const address = segment.address + segment.fileSize;
    if (segment.fileSize !== segment.memorySize || taken || address <= behind) continue;
    const free = image.subarray(end, end + rest);
    if (free.length < bytes.length || free.some((byte) => byte !== 0)) continue;
    bytes.copy(image, end);
    const size = BigInt(segment.fileSize + bytes.length);
    image.writeBigUInt64LE(size, segment.header + 32);
    image.writeBigUInt64LE(size, segment.header + 40);
    return address;
  }
  throw new ElfProblem('the executable has no room for a library path');
}

/** 32 bits of a text (murmur3's body and finish). */
export function hashOf(text: string, seed = 0): number {
  let hash = seed | 0;
  for (let at = 0; at < text.length; at += 1) {
    let word = Math.imul(text.charCodeAt(at), 0xcc9e2d51);
    word = (word << 15) | (word >>> 17);
    hash ^= Math.imul(word, 0x1b873593);
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  return finish(hash ^ text.length);
}

/** Another 32 bits for each `step`, as good as those of another text. */
export function mixed(hash: number, step: number): number {
  return finish(hash ^ Math.imul(step + 1, 0x9e3779b1));
}

function finish(value: number): number {
  let hash = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

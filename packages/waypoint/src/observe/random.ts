import { randomBytes } from 'node:crypto';

const pooledBytes = 16 * 1024;
let pool = '';
let used = 0;

/**
 * So many random hexadecimal digits, from a text that is made now and then: a call to the kernel for each request costs
 * more than the rest.
 */
export function randomDigits(count: number): string {
  if (used + count > pool.length) {
    pool = randomBytes(Math.max(pooledBytes, count)).toString('hex');
    used = 0;
  }
  used += count;
  return pool.slice(used - count, used);
}

const variants = ['8', '9', 'a', 'b'];

/** A UUID of version 4 (RFC 9562). */
export function randomUuid(): string {
  const digits = randomDigits(32);
  const variant = variants[Number.parseInt(digits.charAt(16), 16) & 3] ?? '8';
  const [low, mid, high] = [digits.slice(0, 8), digits.slice(8, 12), digits.slice(13, 16)];
  return `${low}-${mid}-4${high}-${variant}${digits.slice(17, 20)}-${digits.slice(20)}`;
}

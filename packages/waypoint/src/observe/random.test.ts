import { expect, test } from '@jest/globals';
import { randomDigits, randomUuid } from './random.ts';

test('digits are as many as asked for, and none come twice', () => {
  const seen = new Set<string>();
  for (let at = 0; at < 5_000; at += 1) {
    const count = at % 2 === 0 ? 16 : 48;
    const digits = randomDigits(count);
    expect(digits).toMatch(/^[0-9a-f]+$/);
    expect(digits).toHaveLength(count);
    seen.add(digits);
  }
  expect(seen.size).toBe(5_000);
  expect(randomDigits(20_000)).toHaveLength(20_000);
});

test('every one of the 122 free bits of a UUID comes both ways, version and variant are fixed', () => {
  const ones = Array.from({ length: 128 }, () => 0);
  const uuids = Array.from({ length: 2_000 }, randomUuid);
  for (const uuid of uuids) {
    expect(uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    const bits = BigInt(`0x${uuid.replaceAll('-', '')}`);
    for (let bit = 0; bit < 128; bit += 1) ones[bit]! += Number((bits >> BigInt(bit)) & 1n);
  }
  expect(new Set(uuids).size).toBe(2_000);
  // 76 to 79 are the version, 62 and 63 the variant. Six standard deviations on either side of the half.
  const free = ones.filter((_, bit) => !(bit >= 76 && bit <= 79) && bit !== 62 && bit !== 63);
  expect(Math.min(...free)).toBeGreaterThan(1_000 - 6 * Math.sqrt(500));
  expect(Math.max(...free)).toBeLessThan(1_000 + 6 * Math.sqrt(500));
});

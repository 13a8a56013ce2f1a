import { METHODS } from 'node:http';
import { expect, test } from '@jest/globals';
import { byNode, byUs, firstSeed, fuzzCount, mutated, randomOf } from './mutations.ts';

const rounds = fuzzCount === 0 ? 20_000 : fuzzCount;

test(
  `what is accepted is what llhttp reads too, request by request (${rounds} mutated messages from seed ${firstSeed})`,
  async () => {
    let accepted = 0;
    for (let seed = firstSeed; seed < firstSeed + rounds; seed += 1) {
      const { bytes } = mutated(randomOf(seed));
      const ours = byUs(bytes);
      // Node knows a list of methods; any token is one for us, as for RFC 9110.
      const comparable = ours.every(({ head }) => METHODS.includes(head.split(' ')[0] ?? ''));
      if (ours.length === 0 || !comparable) continue;
      accepted += 1;
      const theirs = await byNode(bytes);
      // Ours may stop earlier, where the rest is not to its taste; it never reads anything else.
      const common = theirs.slice(0, ours.length).map(({ head, body }, index) => ({
        head,
        body: body ?? ours[index]?.body,
      }));
      const what = { seed, bytes: bytes.toString('latin1') };
      expect({ ...what, requests: common }).toEqual({ ...what, requests: ours });
    }
    expect(accepted).toBeGreaterThan(rounds / 10);
  },
  60_000 + rounds * 5,
);

import { beforeEach, expect, test } from '@jest/globals';
import type { IpAddress, Port } from '@ambit/api';
import type { PodFacts } from './enrol.ts';
import { ProbeRules } from './probe-rules.ts';

const written: string[] = [];
let fails = false;

beforeEach(() => {
  written.length = 0;
  fails = false;
});

function rules(): ProbeRules {
  return new ProbeRules(async (nft) => {
    written.push(/probes4 .*elements = \{ (.*) \};/.exec(nft)?.[1] ?? '');
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (fails) throw new Error('refused');
  });
}

function pod(uid: string, ip: string): PodFacts {
  return { uid, addresses: [ip as IpAddress], probePorts: [80 as Port] } as unknown as PodFacts;
}

test('the first write has what is known of others', async () => {
  const probes = rules();
  probes.know(pod('a', '10.0.0.1'));
  await probes.set(pod('b', '10.0.0.2'));
  expect(written).toEqual(['10.0.0.1 . 80, 10.0.0.2 . 80']);
});

test('many that come at once are written together', async () => {
  const probes = rules();
  await Promise.all(['1', '2', '3'].map((last) => probes.set(pod(last, `10.0.0.${last}`))));
  expect(written).toHaveLength(1);
  const first = probes.set(pod('4', '10.0.0.4'));
  await new Promise((resolve) => setTimeout(resolve, 1));
  await probes.delete('1');
  await first;
  expect(written.slice(1)).toEqual([
    '10.0.0.1 . 80, 10.0.0.2 . 80, 10.0.0.3 . 80, 10.0.0.4 . 80',
    '10.0.0.2 . 80, 10.0.0.3 . 80, 10.0.0.4 . 80',
  ]);
});

test('one that fails is told to who asked, and keeps no later one from being written', async () => {
  const probes = rules();
  fails = true;
  await expect(probes.set(pod('a', '10.0.0.1'))).rejects.toThrow('refused');
  fails = false;
  await probes.set(pod('b', '10.0.0.2'));
  expect(written.at(-1)).toBe('10.0.0.1 . 80, 10.0.0.2 . 80');
});

test('one that is not known is not written for', async () => {
  await rules().delete('a');
  expect(written).toEqual([]);
});

import { readFileSync, readdirSync } from 'node:fs';
import type { TourCluster, TourPod } from '@ambit/sandbox';

/** A pod of a benchmark: one program on a chosen node. */
export function benchPod(
  namespace: string,
  name: string,
  node: string,
  command: readonly string[],
): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels: { app: name } },
    spec: {
      nodeName: node,
      terminationGracePeriodSeconds: 1,
      containers: [{ name, image: 'ambit/samples', command }],
    },
  };
}

export async function ready(
  cluster: TourCluster,
  namespace: string,
  name: string,
): Promise<TourPod> {
  let found: TourPod | undefined;
  await until(`pod ${namespace}/${name}`, async () => {
    found = (await cluster.pods(namespace)).find(
      (pod) => pod.name === name && pod.ready && pod.ip !== '',
    );
    return found !== undefined;
  });
  if (found === undefined) throw new Error(`pod ${namespace}/${name} vanished`);
  return found;
}

const patienceMs = 60_000;

export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited ${patienceMs / 1000} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Processes whose command line names a file. A benchmark sees all of them: it lives in the same process namespace. */
export function pidsOf(file: string): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => {
      try {
        const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return args.slice(0, 3).some((arg) => arg.endsWith(file));
      } catch {
        return false;
      }
    });
}

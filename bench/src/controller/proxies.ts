import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ControlClient } from '@ambit/core';
import { createLogger, startControlClient } from '@ambit/core';
import type { ZtunnelPod } from './objects.ts';

/** Node proxies that take all that the controller tells, and forget it. */
export interface Proxies {
  /** Settles once each has everything. */
  readonly complete: Promise<void>;
  /** Milliseconds until every one of them has been told of the workload. */
  told(name: string): Promise<number>;
  close(): void;
}

export function connectProxies(
  pods: readonly ZtunnelPod[],
  port: number,
  roots: string,
  folder: string,
): Proxies {
  const rootsFile = join(folder, 'roots.pem');
  writeFileSync(rootsFile, roots);
  const logger = createLogger({ scope: 'bench', level: 'silent', format: 'json' });
  const waiting = new Map<string, { left: number; done: () => void }>();
  let incomplete = pods.length;
  let completed: () => void = () => undefined;
  const complete = new Promise<void>((resolve) => (completed = resolve));
  const clients = pods.map(({ name, node, token }): ControlClient => {
    const tokenFile = join(folder, `${name}.token`);
    writeFileSync(tokenFile, token, { mode: 0o600 });
    let isComplete = false;
    return startControlClient({
      address: { host: '127.0.0.1', port: port as never },
      tokenFile,
      rootsFile,
      program: 'ztunnel',
      node,
      instance: name,
      logger,
      held: () => [],
      onUpdate: (update) => {
        for (const { name: of } of update.upserts) {
          const one = waiting.get(of);
          if (one === undefined || !isComplete) continue;
          one.left -= 1;
          if (one.left === 0) one.done();
        }
        if (!update.complete || isComplete) return;
        isComplete = true;
        incomplete -= 1;
        if (incomplete === 0) completed();
      },
    });
  });
  return {
    complete,
    told: (name) => {
      const startedAt = performance.now();
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`${name} was not told in 30 s`)), 30_000);
        waiting.set(name, {
          left: pods.length,
          done: () => {
            clearTimeout(timer);
            waiting.delete(name);
            resolve(performance.now() - startedAt);
          },
        });
      });
    },
    close: () => {
      for (const client of clients) client.close();
    },
  };
}

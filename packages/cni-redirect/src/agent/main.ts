import { join } from 'node:path';
import { createLogger, processEnv, runMain } from '@ambit/core';
import { loadKubeconfig, startAgent } from './app.ts';
import { candidateOf } from './candidate.ts';
import { parseConfig, stopDeadlineMs } from './config.ts';
import { handoverSocketName } from './handover.ts';
import { keepNode } from './keep.ts';

const bootstrap = createLogger({ scope: 'cni-redirect', level: 'info', format: 'text' });

await runMain(
  async () => {
    const config = parseConfig(processEnv(process.env));
    const logger = createLogger({
      scope: 'cni-redirect',
      level: config.logLevel,
      format: config.logFormat,
    });
    const kube = loadKubeconfig(config);
    const kept = await keepNode({
      path: join(config.stateDir, handoverSocketName),
      ...candidateOf(config, { kube, logger }),
      begin: (signal) => startAgent(config, { logger, kubeconfig: kube, signal }),
      logger,
    });
    return { stop: () => kept.stop(), stopDeadlineMs: stopDeadlineMs(config) };
  },
  { logger: bootstrap, stopDeadlineMs: 1_000, exit: (code) => process.exit(code) },
);

import { createLogger, processEnv, runMain } from '@ambit/core';
import { startAgent } from './app.ts';
import { parseConfig, stopDeadlineMs } from './config.ts';

const bootstrap = createLogger({ scope: 'cni-redirect', level: 'info', format: 'text' });

await runMain(
  async () => {
    const config = parseConfig(processEnv(process.env));
    const logger = createLogger({
      scope: 'cni-redirect',
      level: config.logLevel,
      format: config.logFormat,
    });
    const agent = await startAgent(config, { logger });
    return { stop: () => agent.stop(), stopDeadlineMs: stopDeadlineMs(config) };
  },
  { logger: bootstrap, stopDeadlineMs: 1_000, exit: (code) => process.exit(code) },
);

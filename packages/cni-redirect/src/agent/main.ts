import { createLogger, processEnv, runMain } from '@ambit/core';
import { startAgent } from './app.ts';
import { parseConfig } from './config.ts';

const bootstrap = createLogger({ scope: 'cni-redirect', level: 'info', format: 'text' });

await runMain(
  async () => {
    const config = parseConfig(processEnv(process.env));
    const logger = createLogger({
      scope: 'cni-redirect',
      level: config.logLevel,
      format: config.logFormat,
    });
    return startAgent(config, { logger });
  },
  { logger: bootstrap, stopDeadlineMs: 25_000, exit: (code) => process.exit(code) },
);

import { createLogger, processEnv, runMain } from '@ambit/core';

import { startController } from './app.ts';
import { parseConfig, stopDeadlineMs } from './config.ts';

const config = parseConfig(processEnv(process.env));
const logger = createLogger({
  scope: 'controller',
  level: config.logLevel,
  format: config.logFormat,
});

await runMain(
  async () => {
    const controller = await startController(config, { log: logger });
    logger.info({ ...controller.addresses }, 'controller started');
    return { stop: () => controller.close() };
  },
  { logger, stopDeadlineMs, exit: (code) => process.exit(code) },
);

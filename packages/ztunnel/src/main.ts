import { createLogger, processEnv, runMain } from '@ambit/core';
import { startZtunnel } from './app.ts';
import { parseConfig, stopDeadlineMs } from './config.ts';

const bootstrap = createLogger({ scope: 'ztunnel', level: 'info', format: 'text' });

await runMain(
  async () => {
    const config = parseConfig(processEnv(process.env));
    const logger = createLogger({
      scope: 'ztunnel',
      level: config.logLevel,
      format: config.logFormat,
    });
    const ztunnel = await startZtunnel(config, {
      logger,
      quit: () => process.kill(process.pid, 'SIGTERM'),
    });
    return { stop: () => ztunnel.stop(), stopDeadlineMs: stopDeadlineMs(config) };
  },
  { logger: bootstrap, stopDeadlineMs: 1_000, exit: (code) => process.exit(code) },
);

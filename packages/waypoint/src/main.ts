import { createLogger, processEnv, runMain } from '@ambit/core';
import { startWaypoint } from './app.ts';
import { parseConfig } from './config.ts';

const config = parseConfig(processEnv(process.env));
const logger = createLogger({
  scope: 'waypoint',
  level: config.logLevel,
  format: config.logFormat,
});
/** Beyond the drain: what closing itself may take. */
const closingMs = 5_000;

await runMain(
  async () => {
    const waypoint = await startWaypoint(config, {
      logger,
      access: process.stdout,
      quit: () => process.kill(process.pid, 'SIGTERM'),
    });
    logger.info(
      { port: waypoint.port, gateway: `${config.namespace}/${config.gatewayName}` },
      'waypoint started',
    );
    return waypoint;
  },
  {
    logger,
    stopDeadlineMs: config.preDrainMs + config.drainMs + closingMs,
    exit: (code) => process.exit(code),
  },
);

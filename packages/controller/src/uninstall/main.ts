import { causeChain, createLogger, processEnv } from '@ambit/core';

import { createKubeClient, loadKubeConfig } from '../kube/client.ts';
import { parseConfig } from './config.ts';
import { releasePods } from './release.ts';
import { removeTraces } from './remove.ts';

// What helm runs before it uninstalls the mesh, and after.
const config = parseConfig(processEnv(process.env));
const log = createLogger({
  scope: `uninstall-${config.phase}`,
  level: config.logLevel,
  format: config.logFormat,
});
// Of the Job that runs it: at its deadline, or when its pod has to go.
const ended = new AbortController();
process.once('SIGTERM', () => ended.abort());
const client = createKubeClient(loadKubeConfig(config.kubeconfig));
try {
  await (config.phase === 'release'
    ? releasePods({ client, log, signal: ended.signal, ...config })
    : removeTraces({ client, log, ...config }));
} catch (error) {
  log.error({ reason: causeChain(error) }, 'not done');
  process.exitCode = 1;
} finally {
  client.close();
}

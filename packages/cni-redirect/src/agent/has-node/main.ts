import { join } from 'node:path';
import { causeChain } from '@ambit/core';
import { askOwner, handoverSocketName } from '../handover.ts';

// The startup probe of an agent's container: whether it has its node. The ports that other probes ask are the node's, and
// whichever agent has it answers there.
const name = process.env['POD_NAME'] ?? '';
const stateDir = process.env['STATE_DIR'] ?? '/var/run/istio-cni';
const withinMs = 2_000;

try {
  const link = await askOwner(
    join(stateDir, handoverSocketName),
    'who',
    { name, since: 0 },
    withinMs,
  );
  link?.close();
  if (link?.owner !== name) {
    const has = link === undefined ? 'no agent' : link.owner;
    process.stderr.write(`${has} has this node, and not ${name} yet; its log says why\n`);
    process.exitCode = 1;
  }
} catch (error) {
  process.stderr.write(`${causeChain(error)}\n`);
  process.exitCode = 1;
}

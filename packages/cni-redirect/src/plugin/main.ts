import { statSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { callAgent } from './agent-call.ts';
import type { PluginConfig } from './spec.ts';
import {
  CniFailure,
  addressesOf,
  cniErrorCode,
  parseCniArgs,
  parsePluginConfig,
  supportedVersions,
} from './spec.ts';

// The runtime runs one of these for each step of a pod's life and reads the result from standard output.
const command = process.env['CNI_COMMAND'] ?? '';
let version = '1.0.0';
try {
  process.stdout.write(await run());
} catch (error) {
  const failure =
    error instanceof CniFailure
      ? error.error
      : { code: cniErrorCode.environment, msg: String(error), details: '' };
  process.stdout.write(JSON.stringify({ cniVersion: version, ...failure }));
  process.exit(1);
}

async function run(): Promise<string> {
  if (command === 'VERSION') {
    return JSON.stringify({ cniVersion: supportedVersions.at(-1), supportedVersions });
  }
  const config = parsePluginConfig(await text(process.stdin));
  version = config.cniVersion;
  switch (command) {
    case 'ADD':
      await ask(config, '/cmdadd');
      return JSON.stringify({ ...(config.prevResult ?? {}), cniVersion: version });
    case 'CHECK':
      await ask(config, '/cmdcheck');
      return '';
    case 'DEL':
    case 'GC':
      // The agent learns of the end from the API server; a pod's end must not depend on the agent.
      return '';
    case 'STATUS':
      // A node whose network is not ready starts no pod at all, not even ztunnel's, and ADD holds back those that must wait.
      return '';
    default:
      throw new CniFailure(
        cniErrorCode.environment,
        `CNI_COMMAND ${JSON.stringify(command)} is not known`,
      );
  }
}

async function ask(config: PluginConfig, path: '/cmdadd' | '/cmdcheck'): Promise<void> {
  const args = parseCniArgs(process.env['CNI_ARGS'] ?? '');
  const namespace = args.get('K8S_POD_NAMESPACE') ?? '';
  if (config.excludeNamespaces.includes(namespace)) return;
  const name = args.get('K8S_POD_NAME') ?? '';
  if (namespace === '' || name === '') {
    throw new CniFailure(
      cniErrorCode.environment,
      'CNI_ARGS lacks K8S_POD_NAMESPACE or K8S_POD_NAME',
    );
  }
  if (config.prevResult === undefined) {
    throw new CniFailure(
      cniErrorCode.invalidConfig,
      'no prevResult: chain this plugin after one that makes the interface',
    );
  }
  const netns = process.env['CNI_NETNS'] ?? '';
  await callAgent(config.agentSocket, path, {
    Netns: netns,
    NetnsInode: inodeOf(netns),
    PodName: name,
    PodNamespace: namespace,
    PodUID: args.get('K8S_POD_UID') ?? '',
    ContainerID: process.env['CNI_CONTAINERID'] ?? '',
    IPs: addressesOf(config.prevResult),
  });
}

/** The agent sees other paths than the host does (`/proc/<pid>/ns/net` not at all), and the same numbers. */
function inodeOf(path: string): string | undefined {
  try {
    return String(statSync(path, { bigint: true }).ino);
  } catch {
    // Of the path itself the agent says what is wrong.
    return undefined;
  }
}

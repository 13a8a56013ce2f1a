import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import type { Port } from '@ambit/api';
import type { Netns } from '@ambit/core';
import { MeshError, errnoCode, spawnInNetns } from '@ambit/core';
import { defaultCapture, renderPodRules } from './index.ts';
import { renderNodeRules } from './node.ts';
import { podTable } from './render.ts';
import type { PodScripts, RoutingScript } from './routing.ts';

const timeoutMs = 10_000;
const maxOutputChars = 64 * 1024;
/** Programs that are run, and what a system must have installed for them. */
const providedBy = new Map([
  ['nft', 'the package nftables'],
  ['ip', 'the package iproute2'],
]);

/** Carries scripts out inside a pod's network namespace. */
export async function runInPod(netns: Netns, scripts: PodScripts): Promise<void> {
  const start = startIn(netns);
  // Answers to the proxy need the routes before the first connection is redirected.
  await Promise.all(scripts.routing.map((script) => runRouting(start, script)));
  await runNft(start, scripts.nft);
}

/** Carries out a transaction in a network namespace. */
export async function applyNft(netns: Netns, script: string): Promise<void> {
  await runNft(startIn(netns), script);
}

/** The rules in a pod's network namespace as nft writes them, without counts; undefined where there are none. */
export async function listPodTable(netns: Netns): Promise<string | undefined> {
  const args = ['-s', '-nn', 'list', 'table', ...podTable.split(' ')];
  const { status, stdout } = await run(startIn(netns), 'nft', args, '');
  return status === 0 ? stdout : undefined;
}

function startIn(netns: Netns): Start {
  return (command, args) => spawnInNetns(netns.fd, command, args, { stdio: 'pipe' });
}

/** Carries out a transaction in the network namespace of this process. */
export async function runOnNode(nft: string): Promise<void> {
  await runNft(spawnHere, nft);
}

/**
 * Refuses to start where a program, a privilege or a feature of the kernel is missing, and says what provides it. The
 * kernel looks at every kind of rule that a pod may get, and none is put in place.
 */
export async function checkTools(): Promise<void> {
  await run(spawnHere, 'ip', ['-V'], '');
  const listed = await run(spawnHere, 'nft', ['list', 'tables'], '');
  if (listed.status !== 0) {
    throw new MeshError(
      'rules/not-permitted',
      `nft list tables failed: ${listed.stderr.trim()}; run the agent with CAP_NET_ADMIN and CAP_SYS_ADMIN on a kernel with nf_tables`,
    );
  }
  for (const script of [everyPodRule(), renderNodeRules([])]) {
    const { status, stderr } = await run(spawnHere, 'nft', ['-c', '-f', '-'], script);
    if (status === 0) continue;
    throw new MeshError(
      'rules/not-supported',
      `the kernel does not take the rules of a pod: ${firstLine(stderr)}; it needs nf_tables with NAT, redirect, reject and conntrack (modules nft_chain_nat, nft_redir, nft_reject_inet, nft_ct, and CONFIG_NF_CONNTRACK_ZONES) for IPv4 and IPv6`,
    );
  }
  const routing = await run(spawnHere, 'ip', ['-4', 'rule', 'show'], '');
  if (routing.status !== 0) {
    throw new MeshError(
      'rules/not-supported',
      `the kernel has no policy routing (CONFIG_IP_MULTIPLE_TABLES): ${firstLine(routing.stderr)}`,
    );
  }
}

function everyPodRule(): string {
  const probePorts = [1 as Port];
  return renderPodRules({ ...defaultCapture, probePorts, captureDns: true, otherProtocols: 'drop' })
    .nft;
}

function firstLine(text: string): string {
  return text.trim().split('\n')[0] ?? '';
}

type Start = (command: string, args: readonly string[]) => ChildProcess;

function spawnHere(command: string, args: readonly string[]): ChildProcess {
  return spawn(command, args, { stdio: 'pipe' });
}

async function runNft(start: Start, script: string): Promise<void> {
  const { status, stderr } = await run(start, 'nft', ['-f', '-'], script);
  if (status !== 0) throw new MeshError('rules/nft', `nft refused the rules: ${stderr.trim()}`);
}

async function runRouting(
  start: Start,
  { family, batch, expects, required }: RoutingScript,
): Promise<void> {
  const flag = family === 'IPv4' ? '-4' : '-6';
  const { stdout, stderr } = await run(start, 'ip', [flag, '-force', '-batch', '-'], batch);
  if (!required || expects.every((form) => form.test(stdout))) return;
  throw new MeshError('rules/routing', `ip did not set up ${family} routing: ${stderr.trim()}`);
}

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(
  start: Start,
  command: string,
  args: readonly string[],
  input: string,
): Promise<Outcome> {
  const child = start(command, args);
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    if (stdout.length < maxOutputChars) stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    if (stderr.length < maxOutputChars) stderr += text;
  });
  // A program that ends before it has read everything says why by its status.
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(input);
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  try {
    return await new Promise<Outcome>((resolve, reject) => {
      child.on('error', (cause) => reject(failedToStart(command, cause)));
      child.on('close', (status) => resolve({ status, stdout, stderr }));
    });
  } finally {
    clearTimeout(timer);
  }
}

function failedToStart(command: string, cause: unknown): MeshError {
  const missing = errnoCode(cause) === 'ENOENT';
  const hint = missing
    ? `is not installed; install ${providedBy.get(command) ?? command}`
    : 'cannot be run';
  return new MeshError('rules/no-tool', `${command} ${hint}`, { cause });
}

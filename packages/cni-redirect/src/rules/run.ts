import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import type { Netns } from '@ambit/core';
import { MeshError, errnoCode, spawnInNetns } from '@ambit/core';
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
  const start = (command: string, args: readonly string[]): ChildProcess =>
    spawnInNetns(netns.fd, command, args, { stdio: 'pipe' });
  // Answers to the proxy need the routes before the first connection is redirected.
  await Promise.all(scripts.routing.map((script) => runRouting(start, script)));
  await runNft(start, scripts.nft);
}

/** Carries out a transaction in the network namespace of this process. */
export async function runOnNode(nft: string): Promise<void> {
  await runNft(spawnHere, nft);
}

/** Refuses to start where a program or a privilege is missing, and says what provides it. */
export async function checkTools(): Promise<void> {
  await run(spawnHere, 'ip', ['-V'], '');
  const { status, stderr } = await run(spawnHere, 'nft', ['list', 'tables'], '');
  if (status === 0) return;
  throw new MeshError(
    'rules/not-permitted',
    `nft list tables failed: ${stderr.trim()}; run the agent with CAP_NET_ADMIN and CAP_SYS_ADMIN on a kernel with nf_tables`,
  );
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

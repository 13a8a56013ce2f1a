import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { KubeconfigMessage, ParentMessage, SandboxConfig } from './config.ts';
import { readSandboxConfig } from './config.ts';
import type { Output } from './output.ts';
import { createOutput } from './output.ts';
import type { Sandbox } from './app.ts';
import { startSandbox } from './app.ts';
import { renderSummary } from './summary.ts';
import { runTour } from './tour/tour.ts';

type Start = Extract<ParentMessage, { kind: 'start' }>;

const config = readSandboxConfig();
const output = createOutput(process.stdout);
let sandbox: Promise<Sandbox> | undefined;
let stopping: Promise<void> | undefined;

process.on('message', (message: ParentMessage, handle?: unknown) => {
  switch (message.kind) {
    case 'start':
      void start(message);
      break;
    case 'connection':
      void accept(message.target, handle as Socket);
      break;
    case 'stop':
      void stop(0);
      break;
  }
});
// The process that holds the terminal is gone: nobody is left to serve, and the kernel clears the rest away.
process.on('disconnect', () => void stop(1));
process.on('uncaughtException', (error) => {
  output.line(`ambit: ${error.stack ?? error.message}`);
  void stop(1);
});

async function start(message: Start): Promise<void> {
  try {
    sandbox = startSandbox(config, (text, work) => output.step(text, work));
    const started = await sandbox;
    const text = started.kubeconfig(`https://127.0.0.1:${message.apiPort}`);
    const kubeconfig: KubeconfigMessage = { kind: 'kubeconfig', text };
    process.send?.(kubeconfig);
    if (config.tour) {
      await stop((await tour(started, config, output)) ? 0 : 1);
      return;
    }
    const seconds = (Date.now() - message.startedAtMs) / 1000;
    output.line(await renderSummary(started, message, seconds));
  } catch (error) {
    output.line(`ambit: the sandbox did not come up: ${describe(error)}`);
    await stop(1);
  }
}

async function tour(started: Sandbox, { root }: SandboxConfig, to: Output): Promise<boolean> {
  const script = join(root, 'samples/tools/steady.mjs');
  return runTour(started.tour, (text, ok) => to.proof(text, ok), script);
}

async function accept(target: string, socket: Socket): Promise<void> {
  socket.on('error', () => socket.destroy());
  try {
    const running = await sandbox;
    if (running === undefined || stopping !== undefined) socket.destroy();
    else running.accept(target, socket);
  } catch {
    socket.destroy();
  }
}

function stop(code: number): Promise<void> {
  stopping ??= (async () => {
    try {
      await (await sandbox)?.close();
    } catch (error) {
      output.line(`ambit: while stopping: ${describe(error)}`);
    }
    process.exit(code);
  })();
  return stopping;
}

function describe(error: unknown): string {
  return typeof error === 'object' && error !== null && 'message' in error
    ? String(error.message)
    : String(error);
}

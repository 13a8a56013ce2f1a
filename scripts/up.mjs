// npm run up: a whole mesh on this machine, in the foreground until Ctrl-C.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Unmet, ensureMachine, orExplain, root } from './lib/ensure.mjs';
import { enterWorld } from './lib/world.mjs';

const help = `Usage: npm run up -- [options]

Starts the sandbox: an embedded Kubernetes API, two nodes, the mesh and a sample shop, all inside
namespaces of its own. Stays in the foreground; Ctrl-C ends it and leaves nothing behind.

  --tour                   run the guided tour, show each proof, and stop
  --expose NS/NAME:PORT    reach a Service from this machine on a loopback port (repeatable);
                           NS/NAME:PORT=LOCAL picks the local port
  --api-port PORT          loopback port of the Kubernetes API (default 6443, or a free one)
  --keep                   keep the cluster's objects in .sandbox/state.json for the next start
  --no-samples             start without the sample shop
  --verbose                print the log of every program of the mesh
  --help                   this text
`;
const home = join(root, '.sandbox');
const lockFile = join(home, 'lock.json');
const kubeconfig = join(home, 'kubeconfig');
const stopDeadlineMs = 15_000;

await orExplain(main);

async function main() {
  const options = readOptions();
  if (options.help) {
    console.log(help);
    return;
  }
  const started = Date.now();
  const say = (text) => console.log(`· ${text}`);
  ensureMachine(say);
  takeLock(say);
  const listeners = [];
  try {
    // Imported late: esbuild is there only once the packages are.
    await (await import('./bundle.mjs')).bundle();
    const sandbox = spawnSandbox(options);
    const api = await listenOnLoopback(options['api-port'], 6443, say, 'the Kubernetes API');
    listeners.push(forward(api, 'api', sandbox));
    const exposed = [];
    for (const { service, port } of options.services) {
      const listener = await listenOnLoopback(port, 0, say, service);
      listeners.push(forward(listener, service, sandbox));
      exposed.push({ service, port: listener.address().port });
    }
    sandbox.send({
      kind: 'start',
      apiPort: api.address().port,
      exposed,
      kubeconfig,
      startedAtMs: started,
    });
    process.exitCode = await untilEnd(sandbox);
  } finally {
    for (const listener of listeners) listener.close();
    rmSync(lockFile, { force: true });
    rmSync(kubeconfig, { force: true });
  }
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        tour: { type: 'boolean', default: false },
        expose: { type: 'string', multiple: true, default: [] },
        'api-port': { type: 'string' },
        keep: { type: 'boolean', default: false },
        'no-samples': { type: 'boolean', default: false },
        verbose: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.tour && values['no-samples'])
      throw new Error('--tour needs the sample shop: leave out --no-samples');
    return {
      ...values,
      'api-port': readPort('--api-port', values['api-port']),
      services: values.expose.map(readService),
    };
  } catch (error) {
    throw new Unmet(`${error.message}\nnpm run up -- --help  lists the options.`);
  }
}

function readPort(option, text) {
  if (text === undefined) return undefined;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535)
    throw new Error(`${option} ${text}: a port is a whole number from 1 to 65535`);
  return port;
}

function readService(text) {
  const parts = /^([a-z0-9-]+)\/([a-z0-9-]+):(\d+)(?:=(\d+))?$/.exec(text);
  if (parts === null)
    throw new Error(
      `--expose ${text}: write it as NAMESPACE/SERVICE:PORT or NAMESPACE/SERVICE:PORT=LOCAL-PORT`,
    );
  const [, namespace, name, servicePort, local] = parts;
  return {
    service: `${namespace}/${name}:${readPort('--expose', servicePort)}`,
    port: readPort('--expose', local),
  };
}

/** One sandbox a clone: a live one is named, the remains of a killed one are removed. */
function takeLock(say) {
  mkdirSync(home, { recursive: true });
  try {
    writeFileSync(lockFile, JSON.stringify(ownMark()), { flag: 'wx', mode: 0o600 });
    return;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
  }
  const held = readLock();
  if (held !== undefined && startTime(held.pid) === held.startTime) {
    throw new Unmet(
      `a sandbox of this clone is already up (process ${held.pid}).\nUse it with:  export KUBECONFIG=${kubeconfig}`,
    );
  }
  say('an earlier run was killed; removing what it left');
  rmSync(kubeconfig, { force: true });
  writeFileSync(lockFile, JSON.stringify(ownMark()), { mode: 0o600 });
}

function ownMark() {
  return { pid: process.pid, startTime: startTime(process.pid) };
}

function readLock() {
  try {
    return JSON.parse(readFileSync(lockFile, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Field 22 of /proc/PID/stat: with the pid it names one process for as long as the machine is up. */
function startTime(pid) {
  if (!existsSync(`/proc/${pid}/stat`)) return undefined;
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}

function spawnSandbox(options) {
  const world = enterWorld(
    'node',
    ['--enable-source-maps', join(root, 'dist/programs/sandbox.mjs')],
    {
      ...process.env,
      AMBIT_SANDBOX: JSON.stringify({
        root,
        tour: options.tour,
        samples: !options['no-samples'],
        verbose: options.verbose,
        stateFile: options.keep ? join(home, 'state.json') : undefined,
      }),
    },
  );
  // A group of its own, so that Ctrl-C reaches this process alone, which then stops the sandbox in order.
  return spawn(world.command, world.args, {
    cwd: root,
    detached: true,
    env: world.env,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
}

/** Listens on 127.0.0.1; a port that was asked for must be free, a default one gives way. */
async function listenOnLoopback(wanted, preferred, say, what) {
  for (const port of wanted === undefined ? [preferred, 0] : [wanted]) {
    try {
      return await listen(port);
    } catch (error) {
      if (error.code === 'EACCES')
        throw new Unmet(`port ${port} for ${what} needs root: choose one above 1023`);
      if (error.code !== 'EADDRINUSE') throw error;
      if (wanted !== undefined)
        throw new Unmet(`port ${port} for ${what} is in use on this machine: choose another`);
      say(`port ${port} is in use; taking a free one for ${what}`);
    }
  }
  throw new Error('no free port on loopback');
}

function listen(port) {
  return new Promise((resolve, reject) => {
    const server = createServer({ pauseOnConnect: true });
    server.once('error', reject);
    server.listen({ host: '127.0.0.1', port }, () => {
      server.off('error', reject);
      server.on('error', (error) => console.error(`ambit: ${error.message}`));
      resolve(server);
    });
  });
}

/** Hands accepted sockets over to the sandbox, whose network the kernel keeps apart from this one. */
function forward(server, target, sandbox) {
  server.on('connection', (socket) => {
    socket.on('error', () => socket.destroy());
    if (!sandbox.connected) return socket.destroy();
    return sandbox.send({ kind: 'connection', target }, socket, (error) => {
      if (error) socket.destroy();
    });
  });
  return server;
}

function untilEnd(sandbox) {
  return new Promise((resolve) => {
    let stopping = false;
    const stop = () => {
      if (stopping) return;
      stopping = true;
      if (sandbox.connected) sandbox.send({ kind: 'stop' }, () => {});
      setTimeout(() => sandbox.kill('SIGKILL'), stopDeadlineMs).unref();
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, stop);
    sandbox.on('message', (message) => {
      if (message.kind === 'kubeconfig') writeFileSync(kubeconfig, message.text, { mode: 0o600 });
    });
    sandbox.on('error', (error) => {
      console.error(`ambit: cannot start the sandbox: ${error.message}`);
      resolve(1);
    });
    sandbox.on('exit', (code, signal) => resolve(code ?? (signal === null || stopping ? 0 : 1)));
  });
}

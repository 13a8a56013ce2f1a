import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { get } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { WebSocket } from 'ws';
import { resources } from '../../src/cluster/store.ts';
import { runToEnd } from '../../src/net/command.ts';
import {
  adminToken,
  apiOrigin,
  namespace,
  node,
  pod,
  readyPod,
  startTestCluster,
  until,
  type TestCluster,
} from './cluster-fixture.ts';

const chatter = node(
  "let n=0;console.error('to stderr');setInterval(()=>console.log('line '+(++n)),50)",
);
const kubectlOf = (version: string): string =>
  join(process.cwd(), '.cache/kubectl', `kubectl-${version}`);
let t: TestCluster;
const headers = { authorization: `Bearer ${adminToken}` };

beforeAll(async () => {
  t = await startTestCluster();
  await t.store.create(resources.pods, pod('chatter', { containers: [chatter] }));
  await readyPod(t.store, 'chatter');
});
afterAll(async () => {
  await t.close();
});

function pathOf(subresource: string, query: Record<string, string | string[]>): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query))
    for (const one of [value].flat()) search.append(key, one);
  return `/api/v1/namespaces/${namespace}/pods/chatter/${subresource}?${search.toString()}`;
}

/** Reads a log until the end, or until `enough` says so. */
async function readLog(
  query: Record<string, string>,
  enough: (text: string) => boolean = () => false,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const call = get(
      `https://${apiOrigin}${pathOf('log', query)}`,
      { headers, rejectUnauthorized: false, timeout: 8_000 },
      (response) => {
        let text = '';
        const done = (): void => resolve({ status: response.statusCode ?? 0, text });
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
          if (!enough(text)) return;
          done();
          call.destroy();
        });
        response.on('end', done);
        response.on('error', () => undefined);
      },
    );
    call.on('error', reject);
  });
}

interface Session {
  readonly channels: Map<number, string>;
  readonly socket: WebSocket;
  readonly done: Promise<void>;
}

function exec(command: string[], extra: Record<string, string> = {}): Session {
  const url = `wss://${apiOrigin}${pathOf('exec', { stdout: 'true', stderr: 'true', command, ...extra })}`;
  const socket = new WebSocket(url, ['v5.channel.k8s.io'], { headers, rejectUnauthorized: false });
  const channels = new Map<number, string>();
  socket.on('message', (message: Buffer) => {
    channels.set(message[0]!, (channels.get(message[0]!) ?? '') + message.subarray(1).toString());
  });
  const done = new Promise<void>((resolve, reject) => {
    socket.on('close', () => resolve());
    socket.on('error', reject);
  });
  return { channels, socket, done };
}

describe('logs', () => {
  test('the last lines, with time stamps, and no more than asked', async () => {
    await until(async () => (await readLog({})).text.includes('line 3'));
    const { text } = await readLog({ tailLines: '2', timestamps: 'true' });
    expect(text.trim().split('\n')).toHaveLength(2);
    expect(text).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]{18}Z line \d+\n/);
    expect((await readLog({ limitBytes: '5' })).text).toHaveLength(5);
    const previous = await readLog({ previous: 'true' });
    expect(previous.status).toBe(400);
    expect(previous.text).toContain('previous terminated container');
  });

  test('following shows new lines in order, without gaps or repeats', async () => {
    const { text } = await readLog({ follow: 'true' }, (so) => so.split('\n').length > 40);
    const numbers = text.match(/(?<=line )\d+(?=\n)/g)!.map(Number);
    expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, i) => i + 1));
  });
});

describe('exec by WebSocket', () => {
  test('output, error output and the exit code come on their channels', async () => {
    const session = exec(['sh', '-c', 'echo out; echo err >&2; exit 7']);
    await session.done;
    expect(session.channels.get(1)).toBe('out\n');
    expect(session.channels.get(2)).toBe('err\n');
    expect(JSON.parse(session.channels.get(3)!)).toMatchObject({
      status: 'Failure',
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: '7' }] },
    });
  });

  test('input is passed on, and its end too', async () => {
    const session = exec(['cat'], { stdin: 'true' });
    session.socket.on('open', () => {
      session.socket.send(Buffer.concat([Buffer.of(0), Buffer.from('hello')]));
      session.socket.send(Buffer.of(255, 0));
    });
    await session.done;
    expect(session.channels.get(1)).toBe('hello');
    expect(JSON.parse(session.channels.get(3)!)).toMatchObject({ status: 'Success' });
  });

  test('a terminal is a terminal and has the size it is told', async () => {
    const session = exec(['sh', '-c', 'tty; sleep 1; stty size'], { stdin: 'true', tty: 'true' });
    session.socket.on('open', () => {
      session.socket.send(Buffer.concat([Buffer.of(4), Buffer.from('{"Width":91,"Height":33}')]));
    });
    await session.done;
    expect(session.channels.get(1)).toMatch(/\/dev\/pts\/\d+[^]*33 91/);
  });

  test('a megabyte arrives whole', async () => {
    const session = exec(['sh', '-c', 'head -c 1048576 /dev/zero | tr "\\0" x']);
    await session.done;
    expect(session.channels.get(1)).toBe('x'.repeat(1048576));
  });

  test('a client that goes takes its command along', async () => {
    const session = exec(['sh', '-c', 'echo here; exec sleep 7654']);
    await until(() => session.channels.get(1) === 'here\n');
    session.socket.terminate();
    await until(
      async () =>
        (await runToEnd('sh', ['-c', "grep -l '[7]654' /proc/[0-9]*/cmdline 2>/dev/null"]))
          .stdout === '',
    );
  });
});

// Those that the integration tests have fetched: here there is no way out to fetch one.
describe.each(['1.30', '1.36'])('kubectl %s', (version) => {
  const kubectl = kubectlOf(version);
  const run = existsSync(kubectl) ? test : test.skip;
  const home = mkdtempSync(join(tmpdir(), 'ambit-kubectl-'));
  afterAll(() => rmSync(home, { recursive: true }));
  const flags = (): string[] => [
    `--server=https://${apiOrigin}`,
    '--insecure-skip-tls-verify',
    `--token=${adminToken}`,
    '-n',
    namespace,
    '--request-timeout=10s',
  ];
  const env = (webSockets: boolean): NodeJS.ProcessEnv => ({
    PATH: process.env['PATH'],
    HOME: home,
    KUBECTL_REMOTE_COMMAND_WEBSOCKETS: String(webSockets),
  });

  for (const [name, webSockets] of [
    ['WebSocket', true],
    ['SPDY', false],
  ] as const) {
    run(`execs by ${name}: input, both outputs, exit code`, async () => {
      const script = 'cat; echo err >&2; exit 9';
      const { status, stdout, stderr } = await runToEnd(
        kubectl,
        [...flags(), 'exec', '-i', 'chatter', '--', 'sh', '-c', script],
        {
          input: 'typed\n',
          env: env(webSockets),
        },
      );
      expect(stderr).toContain('err\n');
      expect(stdout).toBe('typed\n');
      expect(status).toBe(9);
    });
  }

  run('reads logs', async () => {
    const { stdout } = await runToEnd(kubectl, [...flags(), 'logs', 'chatter', '--tail=1'], {
      env: env(true),
    });
    expect(stdout).toMatch(/^line \d+\n$/);
  });
});

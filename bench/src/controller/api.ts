import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createWriteStream, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from '@ambit/testkit';

/** A Kubernetes API to fill: its kubeconfig, and how it ends. */
export interface BenchApi {
  readonly kubeconfig: string;
  readonly what: string;
  close(): Promise<void>;
}

const readyMs = 120_000;

/** The cluster of KUBECONFIG, or etcd and kube-apiserver alone, from the binaries of `node scripts/cluster.mjs setup`. */
export async function startApi(folder: string, kubeconfig: string | undefined): Promise<BenchApi> {
  if (kubeconfig !== undefined)
    return { kubeconfig, what: kubeconfig, close: () => Promise.resolve() };
  const bin = join(homedir(), '.cache/ambit-cluster/bin');
  if (!existsSync(join(bin, 'kube-apiserver')))
    throw new Error(`${bin} has no kube-apiserver; run: node scripts/cluster.mjs setup`);
  const [client, peer, secure] = await Promise.all([freePort(), freePort(), freePort()]);
  const etcd = `http://127.0.0.1:${client}`;
  const token = randomBytes(24).toString('hex');
  const keys = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const certificates = join(folder, 'certificates');
  mkdirSync(certificates);
  const processes = [
    run(join(bin, 'etcd'), folder, {
      'data-dir': join(folder, 'etcd'),
      'listen-client-urls': etcd,
      'advertise-client-urls': etcd,
      'listen-peer-urls': `http://127.0.0.1:${peer}`,
      'initial-advertise-peer-urls': `http://127.0.0.1:${peer}`,
      'initial-cluster': `default=http://127.0.0.1:${peer}`,
      'unsafe-no-fsync': 'true',
      'log-level': 'warn',
    }),
    run(join(bin, 'kube-apiserver'), folder, {
      'etcd-servers': etcd,
      'bind-address': '127.0.0.1',
      'secure-port': String(secure),
      'cert-dir': certificates,
      'token-auth-file': file('tokens', `${token},admin,admin,"system:masters"\n`),
      'authorization-mode': 'RBAC',
      'disable-admission-plugins': 'ServiceAccount',
      'service-account-issuer': 'https://kubernetes.default.svc.cluster.local',
      'service-account-key-file': file('accounts.pub', keys.publicKey),
      'service-account-signing-key-file': file('accounts.key', keys.privateKey),
      'service-cluster-ip-range': '10.96.0.0/16',
    }),
  ];
  const close = async (): Promise<void> => {
    for (const one of [...processes].reverse()) await stop(one);
  };
  const certificate = join(certificates, 'apiserver.crt');
  const deadline = performance.now() + readyMs;
  while (!existsSync(certificate) || !(await isReady(secure, token, certificate))) {
    if (performance.now() < deadline) await pause(200);
    else {
      await close();
      throw new Error(`the API server is not ready; see ${folder}/kube-apiserver.log`);
    }
  }
  const cluster = {
    server: `https://127.0.0.1:${secure}`,
    'certificate-authority-data': readFileSync(certificate).toString('base64'),
  };
  const text = JSON.stringify({
    clusters: [{ name: 'c', cluster }],
    users: [{ name: 'u', user: { token } }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'x',
  });
  return { kubeconfig: file('kubeconfig', text), what: 'kube-apiserver and etcd alone', close };
}

function run(
  program: string,
  folder: string,
  flags: Readonly<Record<string, string>>,
): ChildProcess {
  const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const log = createWriteStream(join(folder, `${program.split('/').at(-1) ?? ''}.log`));
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  return child;
}

/** Ends a process in order, or else by force. */
export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), 20_000);
  await ended;
  clearTimeout(force);
}

async function isReady(port: number, token: string, certificate: string): Promise<boolean> {
  const { request } = await import('node:https');
  return new Promise((resolve) => {
    const asked = request(
      {
        host: '127.0.0.1',
        port,
        path: '/readyz',
        ca: readFileSync(certificate),
        headers: { authorization: `Bearer ${token}` },
        agent: false,
      },
      (answer) => {
        answer.resume();
        resolve(answer.statusCode === 200);
      },
    );
    asked.on('error', () => resolve(false));
    asked.end();
  });
}

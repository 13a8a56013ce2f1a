import type { TourPod } from '@ambit/sandbox';
import type { MeshCluster } from './cluster.ts';
import { until } from './cluster.ts';

/**
 * Answers on 8080 over HTTP with what it saw, and on 9000 each line with the caller's address. When it is told to end it
 * goes on for a while and asks its callers to come back on other connections, as an application does that means it well.
 */
const server = `
const http = require('node:http'), net = require('node:net'), os = require('node:os');
const from = (socket) => (socket.remoteAddress || '').replace(/^::ffff:/, '');
let ending = false;
const web = http.createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    if (ending) response.setHeader('connection', 'close');
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ pod: os.hostname(), caller: from(request.socket), headers: request.headers }) + '\\n');
  });
});
web.keepAliveTimeout = 60000;
web.listen(8080, '::');
net.createServer((socket) => {
  socket.on('error', () => {});
  socket.on('data', (line) => socket.end(line.toString().trim() + ' ' + os.hostname() + ' ' + from(socket) + '\\n'));
}).listen(9000, '::');
process.on('SIGTERM', () => {
  ending = true;
  setTimeout(() => process.exit(0), 5000);
});
`;

export interface EchoOptions {
  readonly namespace: string;
  readonly node?: 'node-1' | 'node-2';
  readonly replicas?: number;
  /** Of the pods. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Of the Service. */
  readonly serviceLabels?: Readonly<Record<string, string>>;
  readonly headless?: boolean;
}

export const http = 8080;
export const lines = 9000;

/** A server of the shop's image with a service account and a Service of its name. */
export function echo(name: string, options: EchoOptions): object[] {
  const { namespace, replicas = 1, labels = {}, serviceLabels = {}, node } = options;
  const metadata = { name, namespace };
  const ports = [
    { name: 'http', port: http },
    { name: 'tcp-lines', port: lines },
  ];
  const container = {
    name: 'echo',
    image: 'ambit/samples',
    command: ['node', '-e', server],
    readinessProbe: { httpGet: { path: '/', port: http }, periodSeconds: 1 },
  };
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { ...metadata, labels: serviceLabels },
      spec: {
        selector: { app: name },
        ports,
        ...(options.headless === true ? { clusterIP: 'None' } : {}),
      },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: {
        replicas,
        selector: { matchLabels: { app: name } },
        strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
        template: {
          metadata: { labels: { app: name, ...labels } },
          spec: {
            serviceAccountName: name,
            terminationGracePeriodSeconds: 10,
            containers: [container],
            ...(node === undefined ? {} : { nodeSelector: { 'kubernetes.io/hostname': node } }),
          },
        },
      },
    },
  ];
}

export interface Seen {
  readonly pod: string;
  readonly caller: string;
  readonly headers: Readonly<Record<string, string>>;
}

type Client = Pick<TourPod, 'namespace' | 'name'>;

/** One request from a pod; undefined when it got no answer of the server. */
export async function askEcho(
  mesh: MeshCluster,
  from: Client,
  host: string,
): Promise<Seen | undefined> {
  const seen = await tryEcho(mesh, from, host);
  return typeof seen === 'string' ? undefined : seen;
}

/**
 * For what has just been made: a pod is ready earlier than kube-proxy, DNS and the mesh send to it, each by itself. Once it
 * answered it must go on answering.
 */
export async function nowAnswers(mesh: MeshCluster, from: Client, host: string): Promise<void> {
  let last = '';
  const answers = async (): Promise<boolean> => {
    const seen = await tryEcho(mesh, from, host);
    if (typeof seen === 'string') last = seen;
    return typeof seen !== 'string';
  };
  const who = `${host}, asked by ${from.namespace}/${from.name}`;
  await until(async () => (await answers()) || undefined, 30_000).catch((error: unknown) => {
    throw new Error(`${who}, does not answer: ${last}`, { cause: error });
  });
  for (let count = 0; count < 5; count += 1)
    if (!(await answers())) throw new Error(`${who}, answered, and then no longer: ${last}`);
}

/** What the server saw, or what curl says of why there is no answer. */
async function tryEcho(mesh: MeshCluster, from: Client, host: string): Promise<Seen | string> {
  const command = ['curl', '-sS', '-m', '5', `http://${hostIn(host)}:${http}/`];
  const { code, output } = await mesh.cluster.exec(from.namespace, from.name, command);
  if (output.startsWith('{')) return JSON.parse(output) as Seen;
  return `exit code ${code}, ${output.trim().slice(0, 300)}`;
}

/** One line over plain TCP: what the server saw as the caller's address. */
export async function sayLine(
  mesh: MeshCluster,
  from: Client,
  host: string,
): Promise<{ readonly pod: string; readonly caller: string } | undefined> {
  const script = `const s=require('net').connect(${lines},process.argv[1]);let t='';s.setTimeout(5000,()=>s.destroy());s.on('data',(d)=>t+=d);s.on('error',()=>{});s.on('close',()=>console.log(t.trim()));s.write('hello\\n')`;
  const { output } = await mesh.cluster.exec(from.namespace, from.name, [
    'node',
    '-e',
    script,
    host,
  ]);
  const [said, pod = '', caller = ''] = output.trim().split(' ');
  return said === 'hello' ? { pod, caller } : undefined;
}

function hostIn(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

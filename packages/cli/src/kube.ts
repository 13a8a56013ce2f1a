import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { KubeConfig } from '@kubernetes/client-node';
import { CliError } from './errors.ts';

export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly creationTimestamp?: string;
  };
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: {
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
    readonly addresses?: readonly { readonly value: string }[];
  };
}

/** The cluster as the commands use it. */
export interface Kube {
  readonly namespace: string;
  get(path: string): Promise<KubeObject | undefined>;
  list(path: string): Promise<readonly KubeObject[]>;
  /** None where the cluster does not know the kind. */
  listIfKnown(path: string): Promise<readonly KubeObject[]>;
  /** What a path answers, as text, whatever its status. */
  read(path: string): Promise<{ readonly status: number; readonly text: string }>;
  /** Creates an object and gives what the cluster made of it, as reviews answer. */
  create(path: string, object: object): Promise<unknown>;
  apply(path: string, object: object, force?: boolean): Promise<void>;
  merge(path: string, patch: object): Promise<void>;
  remove(path: string): Promise<boolean>;
}

const timeoutMs = 15_000;

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly body: unknown;
}

export function connect(kubeconfig: string | undefined, context: string | undefined): Kube {
  const config = new KubeConfig();
  try {
    if (kubeconfig === undefined) config.loadFromDefault();
    else config.loadFromFile(kubeconfig);
    if (context !== undefined) config.setCurrentContext(context);
  } catch (error) {
    throw new CliError(
      `the kubeconfig cannot be read: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null || (kubeconfig === undefined && isMadeUp(cluster))) {
    throw new CliError(
      'no cluster is configured: give --kubeconfig (and --context), or set KUBECONFIG',
    );
  }
  const call = caller(config, cluster.server);
  const checked = ({ status, body }: Answer): unknown => {
    if (status >= 200 && status < 300) return body;
    const message = (body as { message?: string } | undefined)?.message ?? `HTTP ${status}`;
    throw new CliError(message);
  };
  const current = config.getContextObject(config.getCurrentContext());
  return {
    namespace: current?.namespace ?? 'default',
    async get(path) {
      const answer = await call('GET', path);
      return answer.status === 404 ? undefined : (checked(answer) as KubeObject);
    },
    async list(path) {
      const answer = checked(await call('GET', path)) as { items?: readonly KubeObject[] };
      return answer.items ?? [];
    },
    async listIfKnown(path) {
      const answer = await call('GET', path);
      if (answer.status === 404) return [];
      return (checked(answer) as { items?: readonly KubeObject[] }).items ?? [];
    },
    async read(path) {
      const { status, text } = await call('GET', path);
      return { status, text };
    },
    async create(path, object) {
      return checked(await call('POST', path, object));
    },
    async apply(path, object, force = false) {
      const query = `?fieldManager=ambitctl${force ? '&force=true' : ''}`;
      checked(await call('PATCH', path + query, object, 'application/apply-patch+yaml'));
    },
    async merge(path, patch) {
      checked(
        await call('PATCH', `${path}?fieldManager=ambitctl`, patch, 'application/merge-patch+json'),
      );
    },
    async remove(path) {
      const answer = await call('DELETE', path);
      if (answer.status === 404) return false;
      checked(answer);
      return true;
    },
  };
}

/** What the client library answers where nothing is configured, which then fails for a reason of its own. */
function isMadeUp({ name, server }: { readonly name: string; readonly server: string }): boolean {
  return name === 'cluster' && server === 'http://localhost:8080';
}

type Call = (method: string, path: string, body?: object, type?: string) => Promise<Answer>;

function caller(config: KubeConfig, server: string): Call {
  return async (method: string, path: string, body?: object, type?: string): Promise<Answer> => {
    const url = new URL(server.replace(/\/$/, '') + path);
    const options = { headers: {} as Record<string, string>, method, timeout: timeoutMs };
    await config.applyToHTTPSOptions(options);
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
    return new Promise((resolve, reject) => {
      const asked = send(url, {
        ...options,
        headers: {
          ...options.headers,
          accept: 'application/json',
          ...(body === undefined ? {} : { 'content-type': type ?? 'application/json' }),
        },
      });
      asked.on('timeout', () => asked.destroy(new Error(`no answer in ${timeoutMs / 1000} s`)));
      asked.on('error', (error) =>
        reject(new CliError(`the cluster at ${server} cannot be reached: ${error.message}`)),
      );
      asked.on('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          resolve({ status: response.statusCode ?? 0, text, body: json(text) });
        });
      });
      asked.end(body === undefined ? undefined : JSON.stringify(body));
    });
  };
}

function json(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('../../../../scripts/kubectl.mjs', import.meta.url));

/** The path of a real kubectl of this minor version. */
export function kubectlPath(minor = '1.34'): string {
  return execFileSync(process.execPath, [script, minor], { encoding: 'utf8' }).trim();
}

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Kubectl {
  /** Runs kubectl with arguments, and with a manifest on its standard input where one is given. */
  run(args: readonly string[], stdin?: string, environment?: Record<string, string>): Promise<Ran>;
  /** Standard output of a run that must succeed. */
  out(args: readonly string[], stdin?: string): Promise<string>;
  close(): void;
}

/** kubectl with a home of its own, so that nothing is shared between tests. */
export function createKubectl(
  path: string,
  access: { server: string; ca: string; token: string },
): Kubectl {
  const home = mkdtempSync(join(tmpdir(), 'ambit-kubectl-'));
  const caFile = Buffer.from(access.ca).toString('base64');
  const kubeconfig = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      { name: 'c', cluster: { server: access.server, 'certificate-authority-data': caFile } },
    ],
    users: [{ name: 'u', user: { token: access.token } }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'x',
  };
  const file = join(home, 'config');
  execFileSync('sh', ['-c', `cat > '${file}'`], { input: JSON.stringify(kubeconfig) });
  const run: Kubectl['run'] = (args, stdin, environment = {}) =>
    new Promise((resolve) => {
      const env = { PATH: process.env['PATH'], HOME: home, KUBECONFIG: file, ...environment };
      const child = execFile(path, [...args], { env, timeout: 60_000 }, (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr }),
      );
      child.stdin?.end(stdin ?? '');
    });
  return {
    run,
    async out(args, stdin) {
      const { code, stdout, stderr } = await run(args, stdin);
      if (code !== 0) throw new Error(`kubectl ${args.join(' ')} ended with ${code}: ${stderr}`);
      return stdout;
    },
    close: () => rmSync(home, { recursive: true, force: true }),
  };
}

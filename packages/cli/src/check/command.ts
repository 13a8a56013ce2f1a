import type { Argv, CommandModule } from 'yargs';
import { CliError } from '../errors.ts';
import type { Kube } from '../kube.ts';
import type { CliOutput } from '../output.ts';
import { gather } from './gather.ts';
import type { Finding } from './judge.ts';
import { judge } from './judge.ts';

export interface CheckDeps {
  readonly output: CliOutput;
  readonly connect: (kubeconfig: string | undefined, context: string | undefined) => Kube;
  readonly version: string;
}

const signs = { ok: '✔', warning: '!', failed: '✘' } as const;

/** `ambitctl check`: whether the mesh of a cluster is whole, and what to do where it is not. */
export function checkCommand({ output, connect, version }: CheckDeps): CommandModule {
  return {
    command: 'check',
    describe: 'Tell whether the mesh of this cluster is whole, and what to do where it is not',
    builder: (args: Argv) =>
      args
        .option('namespace', {
          alias: 'n',
          type: 'string',
          default: 'istio-system',
          describe: 'where the mesh is installed',
        })
        .option('output', {
          alias: 'o',
          choices: ['text', 'json'],
          default: 'text',
          describe: 'form of the answer; the status is 1 if something failed',
        }),
    handler: async (given) => {
      const args = given as unknown as {
        readonly kubeconfig?: string;
        readonly context?: string;
        readonly namespace: string;
        readonly output: string;
      };
      const kube = connect(args.kubeconfig, args.context);
      const findings = judge(await gather(kube, args.namespace, version));
      output.out(args.output === 'json' ? JSON.stringify(findings, null, 2) : render(findings));
      const failed = findings.filter(({ state }) => state === 'failed').length;
      if (failed > 0) throw new CliError(`${failed} of ${findings.length} checks failed`);
    },
  };
}

function render(findings: readonly Finding[]): string {
  return findings
    .map(({ check, state, message }) => `${signs[state]} ${check}: ${message}`)
    .join('\n');
}

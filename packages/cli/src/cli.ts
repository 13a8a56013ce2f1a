import yargs from 'yargs';
import { checkCommand } from './check/command.ts';
import { CliError } from './errors.ts';
import { connect } from './kube.ts';
import type { CliOutput } from './output.ts';
import { waypointCommand } from './waypoint/command.ts';

const version = '0.1.0';

/** Runs one command; the exit status. Every failure is one sentence that says what to do. */
export async function runCli(args: readonly string[], output: CliOutput): Promise<number> {
  let status = 0;
  const parser = yargs([...args])
    .scriptName('ambitctl')
    .usage('$0 <command>\n\nThe command line of the Ambit mesh.')
    .option('kubeconfig', {
      type: 'string',
      describe: 'file with the cluster to talk to (default: KUBECONFIG, then ~/.kube/config)',
      global: true,
    })
    .option('context', { type: 'string', describe: 'context of the kubeconfig', global: true })
    .command(waypointCommand({ output, connect }))
    .command(checkCommand({ output, connect, version }))
    .demandCommand(1, 'Which command? ambitctl --help lists them.')
    .strict()
    .help()
    .version(version)
    .wrap(100)
    .exitProcess(false)
    .fail((message, error) => {
      throw error instanceof CliError ? error : new CliError(message || String(error));
    });
  try {
    await parser.parseAsync([...args], {}, (_error, _argv, text) => {
      if (text !== '') output.out(text);
    });
  } catch (error) {
    status = 1;
    output.err(`ambitctl: ${error instanceof Error ? error.message : String(error)}`);
  }
  return status;
}

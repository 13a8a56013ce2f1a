import type { IpFamily } from '@ambit/api';
import { proxyConnectionMark, proxyMarkMask } from '@ambit/api';

/** What is to be run in a pod's network namespace: one `nft -f -` and one `ip -force -batch -` for each family. */
export interface PodScripts {
  readonly nft: string;
  readonly routing: readonly RoutingScript[];
}

export interface RoutingScript {
  readonly family: IpFamily;
  /** Lines for `ip -4 -force -batch -` or `ip -6 -force -batch -`; what is there already may fail. */
  readonly batch: string;
  /** What the output holds when the script has done its work; empty where there is nothing to see. */
  readonly expects: readonly RegExp[];
  /** False where the pod has no address of the family: the script may then fail. */
  readonly required: boolean;
}

const table = 100;
const priority = 100;
const mark = `0x${proxyConnectionMark.toString(16)}/0x${proxyMarkMask.toString(16)}`;
const bothFamilies: readonly IpFamily[] = ['IPv4', 'IPv6'];

/**
 * Answers to connections that the proxy opened with a client's address go to the proxy: everything that bears the mark
 * is local. The rule is added only, never removed and added, so that there is no moment without it.
 */
export function renderRouting(families: readonly IpFamily[]): RoutingScript[] {
  return bothFamilies.map((family) => ({
    family,
    batch: [
      `rule add priority ${priority} fwmark ${mark} lookup ${table}`,
      `route replace local ${everything(family)} dev lo table ${table}`,
      `rule show priority ${priority}`,
      `route show table ${table}`,
      '',
    ].join('\n'),
    expects: [new RegExp(`fwmark ${mark} lookup ${table}`), /^local default dev lo/m],
    required: families.includes(family),
  }));
}

export function renderRoutingRemoval(): RoutingScript[] {
  return bothFamilies.map((family) => ({
    family,
    batch: [
      `rule del priority ${priority} fwmark ${mark} lookup ${table}`,
      `route del local ${everything(family)} dev lo table ${table}`,
      '',
    ].join('\n'),
    expects: [],
    required: false,
  }));
}

function everything(family: IpFamily): string {
  return family === 'IPv4' ? '0.0.0.0/0' : '::/0';
}

import type { IpFamily } from '@ambit/api';
import { proxyConnectionMark, proxyMarkMask } from '@ambit/api';
import type { RoutingScript } from './index.ts';

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

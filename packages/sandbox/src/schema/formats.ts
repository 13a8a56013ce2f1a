import { parseCidr, parseIp } from '@ambit/api';

const dateTime =
  /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])[Tt](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})$/;
const quantity = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?$/;
const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

const checks = new Map<string, (text: string) => boolean>([
  ['date-time', (text) => dateTime.test(text)],
  ['date', (text) => /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$/.test(text)],
  ['byte', (text) => base64.test(text.replaceAll(/[\r\n]/g, ''))],
  ['quantity', (text) => text.length <= 64 && quantity.test(text)],
  ['ipv4', (text) => isIp(text, false)],
  ['ipv6', (text) => isIp(text, true)],
  ['cidr', (text) => text.includes('/') && parseCidr(text).ok],
  ['uuid', (text) => /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i.test(text)],
  ['hostname', (text) => text.length <= 253 && /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/i.test(text)],
  ['uri', (text) => URL.canParse(text)],
  ['email', (text) => text.length <= 320 && /^[^\s@]+@[^\s@]+$/.test(text)],
  [
    'duration',
    (text) => text.length <= 64 && /^-?(?:0|(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+)$/.test(text),
  ],
]);

/** Whether a text is not of this format; a format we do not know constrains nothing, as in the API server. */
export function formatProblem(format: string, text: string): boolean {
  return checks.get(format)?.(text) === false;
}

function isIp(text: string, six: boolean): boolean {
  return text.includes(':') === six && parseIp(text).ok;
}

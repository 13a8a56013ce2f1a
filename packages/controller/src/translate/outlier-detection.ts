import type { OutlierDetection } from '@ambit/api';

import type { SettingsSpec } from '../resources/destination-rule.ts';
import { durationMs } from './duration.ts';

type Report = (field: string, message: string) => void;

/** `outlierDetection` of a traffic policy, with Istio's defaults. */
export function compileOutlierDetection(
  spec: NonNullable<SettingsSpec['outlierDetection']>,
  path: string,
  report: Report,
): OutlierDetection {
  const at = `${path}.outlierDetection`;
  const count = (field: keyof typeof spec & `consecutive${string}`, otherwise: number): number => {
    const value = spec[field] ?? otherwise;
    if (value < 0) report(`${at}.${field}`, `must not be negative; ${otherwise} is used`);
    return value < 0 ? otherwise : value;
  };
  const percent = (field: 'maxEjectionPercent' | 'minHealthPercent', otherwise: number): number => {
    const value = spec[field] ?? otherwise;
    const good = value >= 0 && value <= 100;
    if (!good) report(`${at}.${field}`, `must be from 0 to 100; ${otherwise} is used`);
    return good ? value : otherwise;
  };
  const ms = (field: 'interval' | 'baseEjectionTime', otherwise: number): number => {
    const text = spec[field];
    if (text === undefined) return otherwise;
    const value = durationMs(text);
    if (value !== undefined && value >= 1) return value;
    report(`${at}.${field}`, `${JSON.stringify(text)} is no length of time such as 1.5s`);
    return otherwise;
  };
  return {
    consecutive5xx: count('consecutive5xxErrors', 5),
    consecutiveGatewayErrors: count('consecutiveGatewayErrors', 0),
    consecutiveLocalOrigin: count('consecutiveLocalOriginFailures', 5),
    splitExternalLocalOrigin: spec.splitExternalLocalOriginErrors ?? false,
    intervalMs: ms('interval', 10_000),
    baseEjectionMs: ms('baseEjectionTime', 30_000),
    maxEjectionPercent: percent('maxEjectionPercent', 10),
    minHealthPercent: percent('minHealthPercent', 0),
  };
}

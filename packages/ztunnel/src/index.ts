export type { Ztunnel, ZtunnelDeps } from './app.ts';
export { startZtunnel } from './app.ts';
export type { ZtunnelConfig } from './config.ts';
export { parseConfig } from './config.ts';

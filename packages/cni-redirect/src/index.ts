export type { Agent, AgentDeps } from './agent/app.ts';
export { startAgent } from './agent/app.ts';
export type { AgentConfig } from './agent/config.ts';
export type { PodCapture, PodScripts } from './rules/index.ts';
export { defaultCapture, renderClosedRules, renderPodRules, renderRemoval } from './rules/index.ts';

export type { Sandbox, Step } from './app.ts';
export { startSandbox } from './app.ts';
export type { LinkEvidence } from './tour/packets.ts';
export { examine } from './tour/packets.ts';
export { createKubeTour } from './tour/kube.ts';
export type { SandboxConfig } from './config.ts';
export type { ExecResult, LinkCapture, TourCluster, TourPod } from './tour/cluster.ts';

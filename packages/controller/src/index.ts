export type { Controller, ControllerDeps } from './app.ts';
export { startController } from './app.ts';
export type { KubeClient } from './kube/client.ts';
export { createKubeClient } from './kube/client.ts';
export { kubeStatus } from './kube/error.ts';
export type { ControllerConfig } from './config.ts';
export { parseConfig } from './config.ts';
export type { CustomResourceDefinition } from './resources/crd.ts';
export { crds } from './resources/index.ts';

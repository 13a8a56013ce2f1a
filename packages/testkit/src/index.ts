export type { FakeAnswer, FakeObject } from './fake-kube.ts';
export { FakeKube } from './fake-kube.ts';
export type { IssueOptions, TestCa } from './test-ca.ts';
export { makeTestCa } from './test-ca.ts';
export { aMesh, aPolicy, aService, aWorkload, upserts } from './build.ts';
export type { FakeController, FakeControllerOptions } from './fake-controller.ts';
export { startFakeController } from './fake-controller.ts';
export type { FakeAgent } from './fake-agent.ts';
export { startFakeAgent } from './fake-agent.ts';

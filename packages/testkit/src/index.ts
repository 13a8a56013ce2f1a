export type { FakeAnswer, FakeObject } from './fake-kube.ts';
export { FakeKube } from './fake-kube.ts';
export type { IssueOptions, TestCa } from './test-ca.ts';
export { makeTestCa } from './test-ca.ts';
export { aMesh, aPolicy, aService, aWorkload, upserts } from './build.ts';

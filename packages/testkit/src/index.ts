export type { FakeAnswer, FakeObject } from './fake-kube.ts';
export { FakeKube } from './fake-kube.ts';

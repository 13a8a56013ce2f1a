import { Type } from 'typebox';

/** Selects workloads of a namespace by their labels; every one of them when empty. */
export const workloadSelector = Type.Object(
  { matchLabels: Type.Optional(Type.Record(Type.String(), Type.String({ maxLength: 63 }))) },
  { additionalProperties: false, description: 'Workloads by their labels.' },
);

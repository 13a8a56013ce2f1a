import type { TArray, TObject, TOptional, TProperties, TSchema } from 'typebox';
import { Type } from 'typebox';

/** A closed object of which every field may be absent, as nearly all are in Istio's and the Gateway API. */
export function part<P extends TProperties>(properties: P): TObject<P> {
  return Type.Object(properties, { additionalProperties: false });
}

export const text = Type.Optional(Type.String());
export const flag = Type.Optional(Type.Boolean());
export const whole = Type.Optional(Type.Integer());
export const amount = Type.Optional(Type.Number());
export const texts = Type.Optional(Type.Array(Type.String()));
export const textMap = Type.Optional(Type.Record(Type.String(), Type.String()));

export function many<T extends TSchema>(item: T, maxItems = 4096): TOptional<TArray<T>> {
  return Type.Optional(Type.Array(item, { maxItems }));
}

/** `exact`, `prefix` or `regex` (RE2), of which exactly one is set. */
export const stringMatch = part({ exact: text, prefix: text, regex: text });
const lengthOfTime = {
  description: 'A length of time such as 250ms, 1.5s or 1h30m.',
  maxLength: 32,
};

/** A length of time such as `1.5s` or `1h30m`, of 1ms at least, as Istio's definitions have it. */
export const duration = Type.Optional(
  Type.String({
    ...lengthOfTime,
    'x-kubernetes-validations': [
      {
        rule: "duration(self) >= duration('1ms')",
        message:
          'must be a length of time of at least 1ms, such as 250ms, 1.5s or 1h30m; for none leave the field out',
      },
    ],
  }),
);
/** The same where nothing at all, `0s`, says something, too. */
export const durationOrNone = Type.Optional(Type.String(lengthOfTime));

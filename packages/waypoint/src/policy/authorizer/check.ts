import type { ExtensionProvider, HeaderChanges } from '@ambit/api';
import type { Downstream } from '../../context.ts';
import type { HeldBody } from '../../http/checked.ts';
import type { HeaderList } from '../../http/headers.ts';
import type { RequestHead } from '../../http/message.ts';

export type HttpAuthorizer = Extract<ExtensionProvider, { kind: 'ext-authz-http' }>;
export type GrpcAuthorizer = Extract<ExtensionProvider, { kind: 'ext-authz-grpc' }>;
export type Authorizer = HttpAuthorizer | GrpcAuthorizer;

/** What an authorizer is asked about. */
export interface Check {
  readonly request: RequestHead;
  /** As they came: before what only the authorizer may say was taken away. */
  readonly headers: HeaderList;
  readonly body: HeldBody | undefined;
  readonly downstream: Downstream;
  /** SPIFFE URI of the proxy that asks. */
  readonly own: string;
}

/** What it said. That it could not be asked, or spoke nonsense, is an error and no verdict. */
export type Verdict =
  | { readonly kind: 'allow'; readonly request: HeaderChanges; readonly response: HeaderChanges }
  | {
      readonly kind: 'deny';
      readonly status: number;
      readonly headers: readonly (readonly [name: string, value: string])[];
      readonly body: string;
    };

export const maxAnswerBytes = 64 * 1024;

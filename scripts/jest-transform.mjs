// Jest's transform: Node itself takes the types out and leaves every position as it was. No native addon, which in
// namespaces of an ordinary user would find no cache it trusts.
import { stripTypeScriptTypes } from 'node:module';

export default {
  process: (source) => ({ code: stripTypeScriptTypes(source) }),
};

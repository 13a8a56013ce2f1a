const authorityForm = /^(?:[a-z0-9._~!$&'()*+,;=-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?$/;

/** Whether a text in lower case can be the authority of a request: a host, with or without a port (RFC 9110 §4.2). */
export function isAuthority(text: string): boolean {
  return authorityForm.test(text);
}

const authorityForm = /^(?:[a-z0-9._~-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?$/i;
// A space or a line end would make another request of it.
const uriForm = /^[\x21-\x7e]{0,4096}$/;

/** What is wrong with a text that becomes the authority of a request or of a redirect. */
export function authorityProblem(text: string): string | undefined {
  return authorityForm.test(text) ? undefined : 'is no host name, with or without a port';
}

/** What is wrong with a text that becomes a path, or a part of one. */
export function uriProblem(text: string): string | undefined {
  return uriForm.test(text) ? undefined : 'has characters that no path may have; escape them';
}

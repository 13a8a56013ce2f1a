const nameForm = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** The namespaces that `exportTo` names, `*` for all; without it all of them. */
export function exportedToOf(
  written: readonly string[] | undefined,
  own: string,
  report: (field: string, message: string) => void,
): readonly string[] {
  if (written === undefined || written.length === 0) return ['*'];
  return written.flatMap((name, index) => {
    if (name === '*') return ['*'];
    if (name === '.') return [own];
    if (nameForm.test(name)) return [name];
    report(`spec.exportTo[${index}]`, 'must be *, . or the name of a namespace');
    return [];
  });
}

export function isExportedTo(exportedTo: readonly string[], namespace: string): boolean {
  return exportedTo.includes('*') || exportedTo.includes(namespace);
}

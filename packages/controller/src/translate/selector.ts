/** True when the labels hold every entry of the selector. */
export function selects(
  selector: ReadonlyMap<string, string>,
  labels: ReadonlyMap<string, string>,
): boolean {
  for (const [name, value] of selector) if (labels.get(name) !== value) return false;
  return true;
}

import type { ContainerSpec } from '../cluster/objects.ts';

/** What an image stands for in the sandbox: a program of the host, with its defaults. */
export interface ImageEntry {
  /** Image name without registry, tag and digest; a trailing `*` matches any rest. */
  readonly name: string;
  readonly command: readonly string[];
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly workingDir?: string;
}

export type ImageCatalogue = readonly ImageEntry[];

export interface RunnableImage {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly workingDir: string | undefined;
}

/** An image that nothing stands for, in a container that names no command of its own. */
export interface UnknownImage {
  readonly unknown: string;
}

/** `registry:5000/team/name:tag@sha256:…` → `registry:5000/team/name`. */
export function imageName(reference: string): string {
  const withoutDigest = reference.split('@')[0] ?? '';
  const slash = withoutDigest.lastIndexOf('/');
  const colon = withoutDigest.indexOf(':', slash + 1);
  return colon < 0 ? withoutDigest : withoutDigest.slice(0, colon);
}

export function findImage(catalogue: ImageCatalogue, reference: string): ImageEntry | undefined {
  const name = imageName(reference);
  return catalogue.find((entry) => {
    if (entry.name.endsWith('*')) return name.startsWith(entry.name.slice(0, -1));
    return name === entry.name || name.endsWith(`/${entry.name}`);
  });
}

/** What a container runs: its own command and arguments before those of the image, as Kubernetes defines. */
export function resolveImage(
  catalogue: ImageCatalogue,
  container: ContainerSpec,
): RunnableImage | UnknownImage {
  const image = container.image ?? '';
  const entry = findImage(catalogue, image);
  const command = container.command ?? [];
  if (entry === undefined && command.length === 0)
    return { unknown: unknownImage(catalogue, image) };
  const base: Pick<ImageEntry, 'command' | 'args'> | undefined =
    command.length > 0 ? { command } : entry;
  return {
    argv: [...(base?.command ?? []), ...(container.args ?? argsOf(base))],
    env: entry?.env ?? {},
    workingDir: container.workingDir ?? entry?.workingDir,
  };
}

function argsOf(base: { readonly args?: readonly string[] } | undefined): readonly string[] {
  return base?.args ?? [];
}

function unknownImage(catalogue: ImageCatalogue, image: string): string {
  const known = catalogue.map((entry) => entry.name).join(', ') || 'none';
  return (
    `the sandbox has no image ${JSON.stringify(image)}: give the container a command of this machine, ` +
    `or use one of: ${known}`
  );
}

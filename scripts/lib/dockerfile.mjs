// Reads the small part of Dockerfile that images/ uses, so that an image without Docker has the same content.

/** What the last stage of a Dockerfile says. Everything else is an error, because it would be lost. */
export function readDockerfile(text, name) {
  const stages = stagesOf(text, name);
  const last = stages.at(-1);
  const image = {
    base: last.base,
    packages: [],
    copies: [],
    env: {},
    labels: {},
    workdir: '/',
    user: '',
  };
  for (const { word, rest } of last.instructions) apply(image, word, rest, name);
  return image;
}

function apply(image, word, rest, name) {
  switch (word) {
    case 'COPY':
      image.copies.push(copyOf(rest, name));
      return;
    case 'ENV':
      Object.assign(image.env, pairs(rest));
      return;
    case 'LABEL':
      Object.assign(image.labels, pairs(rest));
      return;
    case 'WORKDIR':
      image.workdir = rest;
      return;
    case 'USER':
      image.user = rest;
      return;
    case 'ENTRYPOINT':
      image.entrypoint = JSON.parse(rest);
      return;
    case 'CMD':
      image.command = JSON.parse(rest);
      return;
    case 'RUN':
      image.packages.push(...packagesOf(rest, name));
      return;
    default:
      throw new Error(`${name}: ${word} is not understood without Docker`);
  }
}

/** Logical lines, by stage. */
function stagesOf(text, name) {
  const lines = text
    .split('\n')
    .filter((line) => !/^\s*(#|$)/.test(line))
    .join('\n')
    .replace(/\\\n\s*/g, ' ')
    .split('\n');
  const stages = [];
  for (const line of lines) {
    const [, word, rest] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
    if (word === undefined) throw new Error(`${name}: cannot read ${JSON.stringify(line)}`);
    if (word === 'FROM') {
      const [, base, alias] = /^(\S+)(?: AS (\S+))?$/.exec(rest) ?? [];
      stages.push({ base, alias, instructions: [] });
    } else stages.at(-1).instructions.push({ word, rest });
  }
  return stages;
}

/** Where a file comes from in the clone: the build stage's /src is the clone itself, built. */
function copyOf(rest, name) {
  const [from, ...paths] = rest.split(/\s+/);
  if (from !== '--from=build') throw new Error(`${name}: COPY must be --from=build`);
  const target = paths.pop();
  const sources = paths.map((path) => {
    if (!path.startsWith('/src/')) throw new Error(`${name}: ${path} is not below /src`);
    return path.slice('/src/'.length);
  });
  return { sources, target };
}

function pairs(rest) {
  return Object.fromEntries(
    [...rest.matchAll(/([\w.]+)=("(?:[^"\\]|\\.)*"|\S+)/g)].map(([, key, value]) => [
      key,
      value.startsWith('"') ? JSON.parse(value) : value,
    ]),
  );
}

/** A RUN of the last stage may install Debian packages, and nothing else. */
function packagesOf(rest, name) {
  const form =
    /^apt-get update && apt-get install -y --no-install-recommends ([a-z0-9 -]+) && rm -rf \/var\/lib\/apt\/lists\/\*$/;
  const found = form.exec(rest);
  if (found === null) throw new Error(`${name}: RUN may only install packages, not: ${rest}`);
  return found[1].trim().split(/\s+/);
}

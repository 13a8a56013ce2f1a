import type { Cell, Column } from './columns.ts';
import { age, builtinColumns, plainColumns } from './columns.ts';
import { valuesAtPath } from './json-path.ts';
import type { JsonObject, KubeObject } from './object.ts';
import { resourceName } from './object.ts';
import type { PrinterColumn, ResourceDefinition } from './registry.ts';

/** How much of each object goes with its row. */
export type IncludeObject = 'None' | 'Metadata' | 'Object';

export interface TableRequest {
  readonly definition: ResourceDefinition;
  readonly version: string;
  readonly tableVersion: string;
  readonly include: IncludeObject;
  readonly nowMs: number;
}

/** `meta.k8s.io` Table of objects that are already in the version asked for. */
export function tableOf(
  objects: readonly KubeObject[],
  metadata: JsonObject,
  request: TableRequest,
): JsonObject {
  const columns = columnsOf(request.definition, request.version);
  return {
    kind: 'Table',
    apiVersion: `meta.k8s.io/${request.tableVersion}`,
    metadata,
    columnDefinitions: columns.map(({ name, type, priority }) => ({
      name,
      type: type === 'date' ? 'string' : type,
      format: name === 'Name' ? 'name' : '',
      description: '',
      priority,
    })),
    rows: objects.map((object) => ({
      cells: columns.map((column) => column.cell(object, request.nowMs)),
      ...rowObject(object, request),
    })),
  };
}

function rowObject(object: KubeObject, { include, tableVersion }: TableRequest): JsonObject {
  switch (include) {
    case 'None':
      return {};
    case 'Object':
      return { object };
    case 'Metadata':
      return { object: partialMetadata(object, tableVersion) };
  }
}

/** The object with its metadata and nothing else. */
export function partialMetadata(object: KubeObject, version: string): JsonObject {
  return {
    kind: 'PartialObjectMetadata',
    apiVersion: `meta.k8s.io/${version}`,
    metadata: object.metadata,
  };
}

function columnsOf(definition: ResourceDefinition, version: string): readonly Column[] {
  if (!definition.custom) return builtinColumns.get(resourceName(definition.key)) ?? plainColumns;
  const printed = definition.versions.find(({ name }) => name === version)?.columns;
  if (printed === undefined || printed.length === 0) return plainColumns;
  return [...plainColumns.slice(0, 1), ...printed.map(printerColumn)];
}

function printerColumn({ name, type, jsonPath, priority = 0 }: PrinterColumn): Column {
  const kind =
    (['integer', 'number', 'boolean', 'date'] as const).find((one) => one === type) ?? 'string';
  return {
    name,
    type: kind,
    priority: priority > 0 ? 1 : 0,
    cell: (object, nowMs) => printerCell(valuesAtPath(object, jsonPath), kind, nowMs),
  };
}

function printerCell(values: readonly unknown[], type: Column['type'], nowMs: number): Cell {
  const [first] = values;
  if (first === undefined) return null;
  if (type === 'date') return typeof first === 'string' ? age(first, nowMs) : '<invalid>';
  if (type === 'integer' || type === 'number') return typeof first === 'number' ? first : null;
  if (type === 'boolean') return typeof first === 'boolean' ? first : null;
  const shown = values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value)));
  return shown.join(',');
}

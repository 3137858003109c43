/**
 * From proto/**.proto to one TypeScript file: types, tables for the codec, methods of the service. protobufjs parses;
 * it is not needed at run time.
 */

import { join } from 'node:path';
import protobuf from 'protobufjs';
import { ROOT } from './host.mjs';

const PROTO = join(ROOT, 'proto');
const FILES = ['causeway/v1/control.proto', 'causeway/v1/error.proto', 'google/rpc/status.proto'];
const SCALARS = {
  string: 'string',
  bytes: 'Uint8Array',
  bool: 'boolean',
  int32: 'number',
  uint32: 'number',
  int64: 'bigint',
  uint64: 'bigint',
};

/** Where the result belongs. */
export const GENERATED = join(PROTO, 'generated', 'causeway.ts');

/** The parsed definitions, for the compiler and for tests that want protobufjs's opinion. */
export function loadDefinitions() {
  const root = new protobuf.Root();
  const resolve = root.resolvePath;
  root.resolvePath = (origin, target) => {
    // protobufjs brings google/protobuf itself.
    if (protobuf.common.get(target)) return target;
    return target.startsWith('/') ? resolve(origin, target) : join(PROTO, target);
  };
  root.loadSync(
    FILES.map((file) => join(PROTO, file)),
    { alternateCommentMode: true },
  );
  return root.resolveAll();
}

/** The text of the generated file. @throws Error for what the codec does not support */
export function compile(root = loadDefinitions()) {
  const { messages, enums, services } = collect(root);
  return `/** Made from proto/ by scripts/generate-proto.mjs. Do not edit. */
import type { EnumSchema, MessageSchema, MethodSchema, Schema } from '../schema.ts';

${enums.map(enumType).join('\n')}
${messages.map(messageType).join('\n')}
/** Every message, by name. */
export interface MessageTypes {
${messages.map((message) => `  ${tsName(message)}: ${tsName(message)};`).join('\n')}
}

const enums = {
${enums.map((type) => `  ${tsName(type)}: ${JSON.stringify(type.values)},`).join('\n')}
} as const satisfies Record<string, EnumSchema>;

const messages: Record<keyof MessageTypes, MessageSchema> = {
${messages.map(messageTable).join('\n')}
};

export const SCHEMA: Schema & { readonly enums: typeof enums } = { messages, enums };
${services.map(serviceTable).join('\n')}`;
}

function collect(root) {
  const found = { messages: [], enums: [], services: [] };
  const names = new Set();
  const visit = (node) => {
    if (node instanceof protobuf.Type) found.messages.push(node);
    else if (node instanceof protobuf.Enum) found.enums.push(node);
    else if (node instanceof protobuf.Service) found.services.push(node);
    if (node instanceof protobuf.Type || node instanceof protobuf.Enum) {
      if (names.has(tsName(node))) throw new Error(`two types would be called ${tsName(node)}`);
      names.add(tsName(node));
    }
    for (const child of node.nestedArray ?? []) visit(child);
  };
  visit(root);
  return found;
}

/** `VmExit.Crash` becomes `VmExitCrash`; packages are left out. */
function tsName(type) {
  return type.fullName.replace(/^\.([a-z]\w*\.)+/, '').replaceAll('.', '');
}

function enumType(type) {
  const names = Object.keys(type.values).map((name) => `'${name}'`);
  return `${comment(type.comment, '')}export type ${tsName(type)} = ${names.join(' | ')};\n`;
}

function messageType(type) {
  const fields = type.fieldsArray.map((field) => {
    const optional = presence(field) === 'optional';
    const ts = presence(field) === 'list' ? `readonly ${valueType(field)}[]` : valueType(field);
    return `${comment(field.comment, '  ')}  readonly ${camelCase(field.name)}${optional ? '?' : ''}: ${ts}${optional ? ' | undefined' : ''};`;
  });
  const body = fields.length === 0 ? '' : `\n${fields.join('\n')}\n`;
  return `${comment(type.comment, '')}export interface ${tsName(type)} {${body}}\n`;
}

function messageTable(type) {
  const rows = byNumber(type).map((field) => `[${field.id}, ${JSON.stringify(fieldSchema(field))}]`);
  return `  ${tsName(type)}: new Map([${rows.join(', ')}]),`;
}

function fieldSchema(field) {
  const kind = kindOf(field);
  const group = field.partOf && !field.options?.proto3_optional ? { oneof: field.partOf.name } : {};
  const named = kind === 'enum' || kind === 'message' ? { type: tsName(field.resolvedType) } : {};
  return { name: camelCase(field.name), kind, ...named, presence: presence(field), ...group };
}

/** protobufjs leaves the names in its own copies of google/protobuf as they are. */
function camelCase(name) {
  return name.replaceAll(/_([a-z])/g, (_, letter) => letter.toUpperCase());
}

/** Canonical order on the wire. */
function byNumber(type) {
  return [...type.fieldsArray].sort((a, b) => a.id - b.id);
}

function kindOf(field) {
  if (field.map) throw new Error(`${field.fullName}: maps are not supported`);
  if (field.resolvedType instanceof protobuf.Enum) return 'enum';
  if (field.resolvedType instanceof protobuf.Type) return 'message';
  if (!Object.hasOwn(SCALARS, field.type)) throw new Error(`${field.fullName}: ${field.type} is not supported`);
  return field.type;
}

function valueType(field) {
  return field.resolvedType ? tsName(field.resolvedType) : SCALARS[field.type];
}

function presence(field) {
  if (field.repeated) return 'list';
  return kindOf(field) === 'message' || field.partOf ? 'optional' : 'plain';
}

function serviceTable(service) {
  const rows = service.methodsArray.map((method) => {
    method.resolve();
    const row = {
      path: `/${service.fullName.slice(1)}/${method.name}`,
      request: tsName(method.resolvedRequestType),
      response: tsName(method.resolvedResponseType),
      requestStream: method.requestStream === true,
      responseStream: method.responseStream === true,
    };
    return `${comment(method.comment, '  ')}  ${method.name[0].toLowerCase()}${method.name.slice(1)}: ${JSON.stringify(row)},`;
  });
  return `
export const ${tsName(service)} = {
${rows.join('\n')}
} as const satisfies Record<string, MethodSchema>;
`;
}

function comment(text, indent) {
  if (!text) return '';
  const lines = text.split('\n');
  if (lines.length === 1) return `${indent}/** ${lines[0]} */\n`;
  return `${indent}/**\n${lines.map((line) => `${indent} * ${line}`.trimEnd()).join('\n')}\n${indent} */\n`;
}

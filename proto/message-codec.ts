/**
 * Messages to bytes and back, by table. Written for this project because a library costs eight times its memory:
 * docs/control-api.md has the measurement. The tests compare it with protobufjs byte for byte.
 */
import type { FieldSchema, MessageSchema, ScalarKind, Schema } from './schema.ts';
import { WIRE, WireError, WireReader, WireWriter } from './wire.ts';

/** Deeper nesting is taken for an attack on the stack. */
const MAX_DEPTH = 64;

type Fields = Record<string, unknown>;

/** Encodes and decodes the messages of one schema. `Types` maps their names to their types. */
export class MessageCodec<Types> {
  readonly #schema: Schema;

  constructor(schema: Schema) {
    this.#schema = schema;
  }

  /** @throws RangeError, TypeError for a value that its field cannot hold */
  encode<Name extends keyof Types & string>(name: Name, message: Types[Name]): Uint8Array {
    const writer = new WireWriter();
    this.#write(writer, name, message as Fields);
    return writer.finish();
  }

  /**
   * Fields that the schema does not know are passed over; an unknown value of an enum becomes its zero value.
   * @throws WireError
   */
  decode<Name extends keyof Types & string>(name: Name, bytes: Uint8Array): Types[Name] {
    return this.#read(new WireReader(bytes), name, this.#empty(name), 0) as Types[Name];
  }

  #messageSchema(name: string): MessageSchema {
    const schema = this.#schema.messages[name];
    if (!schema) throw new TypeError(`there is no message ${name}`);
    return schema;
  }

  #write(writer: WireWriter, name: string, message: Fields): void {
    for (const [number, field] of this.#messageSchema(name)) {
      const value = message[field.name];
      const path = `${name}.${field.name}`;
      if (field.presence === 'list') this.#writeList(writer, number, field, path, (value ?? []) as readonly unknown[]);
      else if (value !== undefined && (field.presence === 'optional' || !isZero(value, this.#zeroOf(field)))) {
        writer.tag(number, wireTypeOf(field));
        this.#writeValue(writer, field, path, value);
      }
    }
  }

  #writeList(writer: WireWriter, number: number, field: FieldSchema, path: string, values: readonly unknown[]): void {
    if (values.length === 0) return;
    if (wireTypeOf(field) === WIRE.varint) {
      const packed = new WireWriter();
      for (const value of values) this.#writeValue(packed, field, path, value);
      writer.tag(number, WIRE.bytes).bytes(packed.finish());
      return;
    }
    for (const value of values) {
      writer.tag(number, WIRE.bytes);
      this.#writeValue(writer, field, path, value);
    }
  }

  #writeValue(writer: WireWriter, field: FieldSchema, path: string, value: unknown): void {
    switch (field.kind) {
      case 'message': {
        const nested = new WireWriter();
        this.#write(nested, field.type!, value as Fields);
        writer.bytes(nested.finish());
        break;
      }
      case 'enum': {
        const number = this.#schema.enums[field.type!]![value as string];
        if (number === undefined) throw new RangeError(`${path}: ${field.type} has no ${String(value)}`);
        writer.varint(number);
        break;
      }
      case 'string':
        writer.text(checked(path, value, typeof value === 'string'));
        break;
      case 'bytes':
        writer.bytes(checked(path, value, value instanceof Uint8Array));
        break;
      case 'bool':
        writer.varint(value ? 1 : 0);
        break;
      default:
        writer.varint64(asBigInt(field.kind, path, value));
    }
  }

  #read(reader: WireReader, name: string, target: Fields, depth: number): Fields {
    if (depth > MAX_DEPTH) throw new WireError('messages are nested too deeply');
    const schema = this.#messageSchema(name);
    while (!reader.atEnd) {
      const { field: number, wireType } = reader.tag();
      const field = schema.get(number);
      if (!field) reader.skip(wireType);
      else if (field.presence === 'list') this.#readIntoList(reader, field, wireType, target, depth);
      else if (wireType !== wireTypeOf(field)) {
        throw new WireError(`${name}.${field.name} comes with the wire type ${wireType}`);
      } else {
        if (field.oneof !== undefined) clearGroup(schema, field, target);
        target[field.name] = this.#readValue(reader, field, target[field.name], depth);
      }
    }
    return target;
  }

  /** Numbers come packed or one by one: a reader takes both. */
  #readIntoList(reader: WireReader, field: FieldSchema, wireType: number, target: Fields, depth: number): void {
    const list = target[field.name] as unknown[];
    const ownType = wireTypeOf(field);
    if (wireType === ownType) list.push(this.#readValue(reader, field, undefined, depth));
    else if (ownType === WIRE.varint && wireType === WIRE.bytes) {
      const packed = new WireReader(reader.bytes());
      while (!packed.atEnd) list.push(this.#readValue(packed, field, undefined, depth));
    } else throw new WireError(`${field.name} comes with the wire type ${wireType}`);
  }

  /** @param before what the field holds already: a message that comes in pieces is put together */
  #readValue(reader: WireReader, field: FieldSchema, before: unknown, depth: number): unknown {
    switch (field.kind) {
      case 'message': {
        const target = (before as Fields | undefined) ?? this.#empty(field.type!);
        return this.#read(new WireReader(reader.bytes()), field.type!, target, depth + 1);
      }
      case 'enum': {
        const number = Number(BigInt.asIntN(32, reader.varint64()));
        const names = Object.entries(this.#schema.enums[field.type!]!);
        return (names.find(([, value]) => value === number) ?? names[0]!)[0];
      }
      case 'string':
        return reader.text();
      case 'bytes':
        return reader.bytes().slice();
      case 'bool':
        return reader.varint64() !== 0n;
      case 'int32':
        return Number(BigInt.asIntN(32, reader.varint64()));
      case 'uint32':
        return Number(BigInt.asUintN(32, reader.varint64()));
      case 'int64':
        return BigInt.asIntN(64, reader.varint64());
      case 'uint64':
        return reader.varint64();
    }
  }

  /** A message of which nothing was on the wire. */
  #empty(name: string): Fields {
    const message: Fields = {};
    for (const field of this.#messageSchema(name).values()) {
      if (field.presence === 'list') message[field.name] = [];
      else if (field.presence === 'plain') message[field.name] = this.#zeroOf(field);
    }
    return message;
  }

  #zeroOf(field: FieldSchema): unknown {
    if (field.kind === 'enum') return Object.keys(this.#schema.enums[field.type!]!)[0];
    return field.kind === 'message' ? undefined : ZERO[field.kind];
  }
}

const ZERO: Readonly<Record<ScalarKind, unknown>> = {
  string: '',
  bytes: new Uint8Array(0),
  bool: false,
  int32: 0,
  uint32: 0,
  int64: 0n,
  uint64: 0n,
};

const LIMITS: Readonly<Record<'int32' | 'uint32' | 'int64' | 'uint64', readonly [bigint, bigint]>> = {
  int32: [-(2n ** 31n), 2n ** 31n - 1n],
  uint32: [0n, 2n ** 32n - 1n],
  int64: [-(2n ** 63n), 2n ** 63n - 1n],
  uint64: [0n, 2n ** 64n - 1n],
};

function wireTypeOf(field: FieldSchema): number {
  return field.kind === 'string' || field.kind === 'bytes' || field.kind === 'message' ? WIRE.bytes : WIRE.varint;
}

function isZero(value: unknown, zero: unknown): boolean {
  return value instanceof Uint8Array ? value.length === 0 : value === zero;
}

function clearGroup(schema: MessageSchema, field: FieldSchema, target: Fields): void {
  for (const other of schema.values()) {
    if (other.oneof === field.oneof && other !== field) delete target[other.name];
  }
}

function checked<T>(path: string, value: unknown, holds: boolean): T {
  if (!holds) throw new TypeError(`${path} cannot hold ${typeof value}`);
  return value as T;
}

function asBigInt(kind: keyof typeof LIMITS, path: string, value: unknown): bigint {
  if (typeof value !== 'bigint' && !Number.isSafeInteger(value)) {
    throw new RangeError(`${path} cannot hold ${String(value)}`);
  }
  const whole = BigInt(value as bigint | number);
  const [min, max] = LIMITS[kind];
  if (whole < min || whole > max) throw new RangeError(`${path} cannot hold ${whole}`);
  return whole;
}

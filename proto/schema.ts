/** How generated code describes messages and services: tables that one engine interprets. */

/** Number types that the files use; the generator refuses others. 64-bit ones are bigint, so that nothing is rounded. */
export type ScalarKind = 'string' | 'bytes' | 'bool' | 'int32' | 'uint32' | 'int64' | 'uint64';

export interface FieldSchema {
  /** In lowerCamelCase, as in the objects. */
  readonly name: string;
  readonly kind: ScalarKind | 'enum' | 'message';
  /** Name of the enum or message. */
  readonly type?: string;
  /**
   * `plain`: absent on the wire means the zero value. `optional`: absent means undefined; messages always are.
   * `list`: an array.
   */
  readonly presence: 'plain' | 'optional' | 'list';
  /** Only one field of each group is ever set. */
  readonly oneof?: string;
}

/** Fields by number. */
export type MessageSchema = ReadonlyMap<number, FieldSchema>;

/** Numbers by name. The one with 0 comes first. */
export type EnumSchema = Readonly<Record<string, number>>;

export interface Schema {
  readonly messages: Readonly<Record<string, MessageSchema>>;
  readonly enums: Readonly<Record<string, EnumSchema>>;
}

export interface MethodSchema {
  /** As HTTP/2 has it: `/causeway.v1.VmService/GetVm`. */
  readonly path: string;
  readonly request: string;
  readonly response: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
}

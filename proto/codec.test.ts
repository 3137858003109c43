import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import type protobuf from 'protobufjs';
import { expect, test } from 'vitest';
import { methodRows } from '../scripts/control-docs.mjs';
import { compile, GENERATED, loadDefinitions } from '../scripts/proto-compiler.mjs';
import { ERROR_CODES } from '../vmm/base/errors.ts';
import type { MessageTypes, VmReport } from './generated/causeway.ts';
import { CODEC, SCHEMA, VmService, WireError } from './index.ts';
import type { FieldSchema } from './schema.ts';

const definitions = loadDefinitions() as protobuf.Root;
const NAMES = Object.keys(SCHEMA.messages) as (keyof MessageTypes)[];
const TO_OBJECT = { longs: BigInt, enums: String, defaults: true, arrays: true } as const;

/** protobufjs's idea of a message, under the name that it has in the generated file. */
function peerOf(name: string): protobuf.Type {
  const full = name.replace(/^VmExit(?=[A-Z])/, 'VmExit.');
  return definitions.lookupType(full);
}

function anyValue(field: FieldSchema, depth: number): fc.Arbitrary<unknown> {
  switch (field.kind) {
    case 'string':
      return fc.string({ unit: 'grapheme' });
    case 'bytes':
      return fc.uint8Array();
    case 'bool':
      return fc.boolean();
    case 'int32':
      return fc.integer();
    case 'uint32':
      return fc.nat({ max: 2 ** 32 - 1 });
    case 'int64':
      return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
    case 'uint64':
      return fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    case 'enum':
      return fc.constantFrom(...Object.keys(SCHEMA.enums[field.type!]!));
    case 'message':
      return messageOf(field.type as keyof MessageTypes, depth + 1);
  }
}

/** Any message of that name: every field of it, at most one of each group. */
function messageOf(name: keyof MessageTypes, depth = 0): fc.Arbitrary<Record<string, unknown>> {
  const fields = [...SCHEMA.messages[name]!.values()];
  const single = fields.filter((field) => field.oneof === undefined);
  const record = fc.record(
    Object.fromEntries(
      single.map((field) => {
        const value = anyValue(field, depth);
        return [field.name, field.presence === 'list' ? fc.array(value, { maxLength: 3 }) : value];
      }),
    ),
    { requiredKeys: single.filter((field) => field.presence !== 'optional').map((field) => field.name) },
  );
  const group = fields.filter((field) => field.oneof !== undefined);
  if (group.length === 0) return record;
  const chosen = fc.oneof(
    fc.constant({}),
    ...group.map((field) => anyValue(field, depth).map((value) => ({ [field.name]: value }))),
  );
  return fc.tuple(record, chosen).map(([fixed, one]) => ({ ...fixed, ...one }));
}

/** Without what protobufjs adds: `null` for absent messages. Its bytes are Buffers. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Uint8Array.from(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value).filter(([, field]) => field !== null && field !== undefined);
  return Object.fromEntries(fields.map(([key, field]) => [key.replace('type_url', 'typeUrl'), plain(field)]));
}

const forPeer = (value: unknown): Record<string, unknown> =>
  JSON.parse(
    JSON.stringify(value, (_, field: unknown) => {
      if (typeof field === 'bigint') return field.toString();
      return field instanceof Uint8Array ? Buffer.from(field).toString('base64') : field;
    }).replaceAll('"typeUrl"', '"type_url"'),
  ) as Record<string, unknown>;

test('generated code is what the definitions say', () => {
  expect(readFileSync(GENERATED, 'utf8'), 'stale: node scripts/generate-proto.mjs').toBe(compile(loadDefinitions()));
});

test.each(NAMES)('%s: what is encoded is decoded, here and by protobufjs', (name) => {
  const peer = peerOf(name);
  fc.assert(
    fc.property(messageOf(name), (message) => {
      const bytes = CODEC.encode(name, message as never);
      expect(CODEC.decode(name, bytes)).toEqual(message);
      expect(plain(peer.toObject(peer.decode(bytes), TO_OBJECT))).toEqual(plain(message));
      const theirs = peer.encode(peer.fromObject(forPeer(message))).finish();
      expect(CODEC.decode(name, theirs)).toEqual(message);
    }),
    { numRuns: 40 },
  );
});

test('64-bit numbers beyond 2^53 survive', () => {
  for (const memoryBytes of [2n ** 53n - 1n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
    const message = { name: '', cpus: 0, kernel: '', devices: [], memoryBytes, reboots: 0n } satisfies VmReport;
    expect(CODEC.decode('VmReport', CODEC.encode('VmReport', message))).toEqual(message);
  }
});

test('foreign bytes end in a message or in a WireError, never otherwise', () => {
  fc.assert(
    fc.property(fc.constantFrom(...NAMES), fc.uint8Array({ maxLength: 200 }), (name, bytes) => {
      try {
        CODEC.decode(name, bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(WireError);
      }
    }),
    { numRuns: 2000 },
  );
});

test('every truncation of a message is an error or a shorter message', () => {
  const bytes = CODEC.encode('VmConfig', { kernel: 'vmlinuz', devices: [{ bdf: '01:00.0' }], memoryBytes: 2n ** 40n });
  for (let length = 0; length < bytes.length; length++) {
    try {
      CODEC.decode('VmConfig', bytes.subarray(0, length));
    } catch (error) {
      expect(error).toBeInstanceOf(WireError);
    }
  }
});

test('what a newer peer adds is passed over; its enum values become the zero value', () => {
  const bytes = Buffer.from('9806 01 9a06 02 6869 a106 0000000000000000 a506 00000000'.replaceAll(' ', ''), 'hex');
  expect(CODEC.decode('ResetReport', bytes)).toEqual({
    when: 'RESET_OCCASION_UNSPECIFIED',
    method: '',
    ok: false,
    faults: [],
  });
  expect(CODEC.decode('StateChanged', Uint8Array.of(8, 99))).toEqual({ state: 'VM_STATE_UNSPECIFIED' });
});

test('a message in pieces is put together; of a group the last one counts', () => {
  const config = CODEC.encode('GetVmResponse', { vm: vmInfo({ config: { kernel: 'a', devices: [{ bdf: '1' }] } }) });
  const more = CODEC.encode('GetVmResponse', {
    vm: vmInfo({ pid: 7, config: { kernel: '', devices: [{ bdf: '2' }] } }),
  });
  const { vm } = CODEC.decode('GetVmResponse', Buffer.concat([config, more]));
  expect(vm).toMatchObject({ pid: 7, config: { kernel: 'a', devices: [{ bdf: '1' }, { bdf: '2' }] } });
  const exits = [CODEC.encode('VmExit', { shutdown: {} }), CODEC.encode('VmExit', { crash: { detail: 'x' } })];
  expect(CODEC.decode('VmExit', Buffer.concat(exits))).toEqual({ crash: { detail: 'x' } });
});

function vmInfo(fields: Partial<MessageTypes['VmInfo']>): MessageTypes['VmInfo'] {
  return { state: 'VM_STATE_UNSPECIFIED', pid: 0, ...fields };
}

test('numbers come packed or one by one', () => {
  for (const bytes of [Uint8Array.of(0x12, 2, 1, 5), Uint8Array.of(0x10, 1, 0x10, 5)]) {
    expect(CODEC.decode('SubscribeEventsRequest', bytes).kinds).toEqual(['VM_EVENT_KIND_STATE', 'VM_EVENT_KIND_EXIT']);
  }
});

test.each<[string, unknown]>([
  ['cpus', -1],
  ['cpus', 2 ** 32],
  ['cpus', 1.5],
  ['memoryBytes', 2n ** 64n],
  ['memoryBytes', 2 ** 53],
  ['kernel', 7],
])('a %s of %s cannot be encoded', (field, value) => {
  expect(() => CODEC.encode('VmConfig', { kernel: 'k', devices: [], [field]: value })).toThrow(`VmConfig.${field}`);
});

test('an unknown name of an enum cannot be encoded', () => {
  expect(() => CODEC.encode('StateChanged', { state: 'VM_STATE_ODD' as never })).toThrow('has no VM_STATE_ODD');
});

test('nesting has an end', () => {
  // Only Any could nest without end, and it holds bytes: so the depth is that of the definitions, and varints are short.
  expect(() => CODEC.decode('VmConfig', Uint8Array.of(0x28, ...Array<number>(10).fill(0xff), 1))).toThrow(WireError);
});

test('error codes are those of the source, and none has changed its number', () => {
  const names = Object.keys(SCHEMA.enums.ErrorCode).slice(1);
  const missing = 'add it at the end of proto/causeway/v1/error.proto, then: node scripts/generate-proto.mjs';
  expect(new Set(names), missing).toEqual(new Set(Object.keys(ERROR_CODES).map((code) => `ERROR_CODE_${code}`)));
});

test('every kind of event that can be asked for has an arm, and the other way round', () => {
  const arms = [...SCHEMA.messages.VmEvent!.values()].filter(({ oneof }) => oneof === 'event').map(({ name }) => name);
  const kinds = Object.keys(SCHEMA.enums.VmEventKind).map((kind) => camelCase(kind.replace('VM_EVENT_KIND_', '')));
  expect([...kinds.slice(1), 'dropped'].sort()).toEqual([...arms].sort());
});

function camelCase(constant: string): string {
  return constant.toLowerCase().replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}

test('every enum has a zero value that says nothing', () => {
  for (const values of Object.values(SCHEMA.enums)) {
    expect(Object.keys(values)[0]).toMatch(/_UNSPECIFIED$/);
    expect(Object.values(values)[0]).toBe(0);
  }
});

test('methods lie under one path', () => {
  for (const { path } of Object.values(VmService)) expect(path).toMatch(/^\/causeway\.v1\.VmService\/[A-Z]\w+$/);
});

test('docs/control-api.md tells of every method what the definitions say', () => {
  const document = readFileSync(new URL('../docs/control-api.md', import.meta.url), 'utf8');
  for (const row of methodRows(definitions)) expect(document).toContain(row);
});

/**
 * A writer of AML, the byte code of ACPI: as much of ACPI 6.5 chapter 20 as the DSDT uses.
 * Every function returns the encoding of one term; terms are put together by passing them on. Pure.
 */

/** The encoding of one or more AML terms. */
export type Aml = Uint8Array;

/** Joins byte strings. */
export function concat(...parts: readonly (Uint8Array | readonly number[])[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Little-endian bytes of a number below 2^53. */
export function le(value: number, width: 1 | 2 | 4 | 8): number[] {
  const bytes: number[] = [];
  for (let rest = value, i = 0; i < width; i++, rest = Math.floor(rest / 256)) bytes.push(rest % 256);
  return bytes;
}

/** Bytes of an ASCII string, one per character. */
export function ascii(text: string): number[] {
  return Array.from(text, (char) => char.charCodeAt(0));
}

/**
 * PkgLength (§20.2.4) for `contents` bytes that follow it: the length counts its own bytes too.
 * @throws RangeError from 2^28 on
 */
export function packageLength(contents: number): number[] {
  if (contents + 1 < 0x40) return [contents + 1];
  for (let extra = 1; extra <= 3; extra++) {
    const total = contents + 1 + extra;
    if (total >= 2 ** (4 + 8 * extra)) continue;
    const bytes = [(extra << 6) | (total & 0xf)];
    for (let i = 0; i < extra; i++) bytes.push((total >> (4 + 8 * i)) & 0xff);
    return bytes;
  }
  throw new RangeError(`an AML package of ${contents} bytes is too long`);
}

/**
 * NameString (§20.2.2): `\_SB.PCI0`, `_CRS`. Segments shorter than four characters are padded with `_`.
 * @throws RangeError when a segment is not a NameSeg
 */
export function nameString(path: string): number[] {
  const rooted = path.startsWith('\\');
  const segments = path.slice(rooted ? 1 : 0).split('.');
  const bytes: number[] = rooted ? [0x5c] : [];
  if (segments.length === 2) bytes.push(0x2e);
  else if (segments.length > 2) bytes.push(0x2f, segments.length);
  for (const segment of segments) {
    if (!/^[A-Z_][A-Z0-9_]{0,3}$/.test(segment)) throw new RangeError(`${path} is not an AML name`);
    bytes.push(...ascii(segment.padEnd(4, '_')));
  }
  return bytes;
}

/** An integer in its shortest form: ZeroOp, OneOp, or a constant of 1, 2, 4 or 8 bytes. */
export function integer(value: number): Aml {
  if (value <= 1) return concat([value]);
  if (value <= 0xff) return concat([0x0a], le(value, 1));
  if (value <= 0xffff) return concat([0x0b], le(value, 2));
  if (value <= 0xffff_ffff) return concat([0x0c], le(value, 4));
  return concat([0x0e], le(value, 8));
}

export function string(text: string): Aml {
  return concat([0x0d], ascii(text), [0]);
}

/**
 * An EISA identifier such as `PNP0A08` as the integer that ASL's EISAID() gives (§19.3.4).
 * @throws RangeError when it is not three letters and four hexadecimal digits
 */
export function eisaId(id: string): Aml {
  if (!/^[A-Z]{3}[0-9A-F]{4}$/.test(id)) throw new RangeError(`${id} is not an EISA identifier`);
  const [a, b, c] = ascii(id).map((code) => code & 0x1f) as [number, number, number];
  const maker = (a << 10) | (b << 5) | c;
  const product = Number.parseInt(id.slice(3), 16);
  return concat([0x0c, maker >> 8, maker & 0xff, product >> 8, product & 0xff]);
}

export function buffer(bytes: Uint8Array | readonly number[]): Aml {
  const body = concat(integer(bytes.length), bytes);
  return concat([0x11], packageLength(body.length), body);
}

/** A UUID as the 16-byte buffer of ASL's ToUUID(): the first three groups are little-endian (§19.6.142). */
export function uuid(text: string): Aml {
  const bytes = (text.replaceAll('-', '').match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16));
  if (bytes.length !== 16) throw new RangeError(`${text} is not a UUID`);
  return buffer([3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].map((index) => bytes[index]!));
}

/** A package of at most 255 elements. */
export function pack(...elements: readonly Aml[]): Aml {
  if (elements.length > 255) throw new RangeError('an AML package holds 255 elements at most');
  const body = concat([elements.length], ...elements);
  return concat([0x12], packageLength(body.length), body);
}

export function name(path: string, value: Aml): Aml {
  return concat([0x08], nameString(path), value);
}

export function scope(path: string, ...terms: readonly Aml[]): Aml {
  return block([0x10], nameString(path), terms);
}

export function device(path: string, ...terms: readonly Aml[]): Aml {
  return block([0x5b, 0x82], nameString(path), terms);
}

/** @param args number of arguments, 0 to 7 */
export function method(path: string, args: number, ...terms: readonly Aml[]): Aml {
  return block([0x14], [...nameString(path), args], terms);
}

/** Argument `index` of the method around it. */
export function arg(index: number): Aml {
  return concat([0x68 + index]);
}

/** A reference to a named object. */
export function reference(path: string): Aml {
  return concat(nameString(path));
}

export function returns(value: Aml): Aml {
  return concat([0xa4], value);
}

export function equal(a: Aml, b: Aml): Aml {
  return concat([0x93], a, b);
}

export function ifThen(condition: Aml, ...terms: readonly Aml[]): Aml {
  return block([0xa0], condition, terms);
}

/** `target = a | b` */
export function or(a: Aml, b: Aml, target: Aml): Aml {
  return concat([0x7d], a, b, target);
}

/** `target = a & b` */
export function and(a: Aml, b: Aml, target: Aml): Aml {
  return concat([0x7b], a, b, target);
}

/** True when `value` is 0. */
export function not(value: Aml): Aml {
  return concat([0x92], value);
}

export function store(value: Aml, target: Aml): Aml {
  return concat([0x70], value, target);
}

/** Variable `index`, 0 to 7, of the method around it. */
export function local(index: number): Aml {
  return concat([0x60 + index]);
}

/** Names the 32 bits at byte `index` of a buffer. */
export function createDwordField(source: Aml, index: number, field: string): Aml {
  return concat([0x8a], source, integer(index), nameString(field));
}

function block(opcode: readonly number[], head: Uint8Array | readonly number[], terms: readonly Aml[]): Aml {
  const body = concat(head, ...terms);
  return concat(opcode, packageLength(body.length), body);
}

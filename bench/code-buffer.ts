/** Machine code put together by hand: bytes, labels, and jumps to them. */
export class CodeBuffer {
  readonly #bytes: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #jumps: { readonly at: number; readonly size: 1 | 4; readonly to: string }[] = [];

  /** Appends bytes as they are. */
  bytes(...values: readonly number[]): this {
    this.#bytes.push(...values);
    return this;
  }

  /** Appends an opcode and a little-endian 32-bit operand. */
  withImm32(opcode: readonly number[], value: number): this {
    return this.bytes(...opcode, value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
  }

  label(name: string): this {
    if (this.#labels.has(name)) throw new RangeError(`label ${name} is taken`);
    this.#labels.set(name, this.#bytes.length);
    return this;
  }

  /** Appends an opcode and the 8-bit distance to a label. */
  shortJump(opcode: number, to: string): this {
    this.bytes(opcode, 0);
    this.#jumps.push({ at: this.#bytes.length - 1, size: 1, to });
    return this;
  }

  /** Appends a call to a label. */
  call(to: string): this {
    this.withImm32([0xe8], 0);
    this.#jumps.push({ at: this.#bytes.length - 4, size: 4, to });
    return this;
  }

  /** The code with every jump resolved. @throws RangeError for an unknown label or a short jump too far */
  finish(): Uint8Array {
    const code = Uint8Array.from(this.#bytes);
    const view = new DataView(code.buffer);
    for (const { at, size, to } of this.#jumps) {
      const target = this.#labels.get(to);
      if (target === undefined) throw new RangeError(`no label ${to}`);
      const distance = target - (at + size);
      if (size === 4) view.setInt32(at, distance, true);
      else if (distance < -128 || distance > 127) throw new RangeError(`${to} is too far for a short jump`);
      else view.setInt8(at, distance);
    }
    return code;
  }
}

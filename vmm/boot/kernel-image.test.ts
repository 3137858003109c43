import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MIB, writeLe } from '../base/bits.ts';
import { CausewayError } from '../base/errors.ts';
import { checkBootFiles } from './check.ts';
import { prepareKernel } from './kernel-image.ts';
import { packingOf } from './payload.ts';
import { syntheticBzImage, syntheticElf } from './synthetic-kernel.test-util.ts';

let dir = '';
let count = 0;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'causeway-kernel-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

function file(bytes: Uint8Array | string): string {
  const path = join(dir, `file-${count++}`);
  writeFileSync(path, bytes);
  return path;
}

const cacheDir = () => join(dir, 'cache');
const prepare = (bytes: Uint8Array | string, unpack = false) =>
  prepareKernel(file(bytes), { unpack, cacheDir: cacheDir() });
const code = (length: number) => new Uint8Array(length).fill(0x90);
const kernelElf = () =>
  syntheticElf([{ gpa: 16 * MIB, bytes: code(600_000), memorySize: MIB }], { slide: 0xffff_ffff_8000_0000n });

describe('prepareKernel on a bzImage', () => {
  it('plans the 64-bit protocol', async () => {
    const image = await prepare(syntheticBzImage());
    expect(image).toMatchObject({ protocol: '64-bit', entry: 0x100_0200, cmdlineSize: 2047, remark: undefined });
    expect(image.footprint).toEqual({ start: 0x100_0000, size: 0x10_0000 });
    expect(image.segments).toEqual([{ gpa: 0x100_0000, offset: 1024, fileSize: 8192, memorySize: 8192 }]);
    image.close();
    image.close();
  });

  it('unpacks the payload once and finds it in the cache', async () => {
    const bytes = syntheticBzImage(gzipSync(kernelElf()));
    const first = await prepare(bytes, true);
    expect(first).toMatchObject({ protocol: 'unpacked', entry: 16 * MIB, fromCache: false, remark: undefined });
    expect(first.footprint).toEqual({ start: 16 * MIB, size: MIB });
    const second = await prepare(bytes, true);
    expect(second).toMatchObject({ protocol: 'unpacked', fromCache: true, segments: first.segments });
    expect(readdirSync(cacheDir()).filter((name) => name.startsWith('.'))).toEqual([]);
    first.close();
    second.close();
  });

  it.each([
    ['xz', ['--check=crc32', '--x86', '--lzma2=preset=1', '-c']],
    ['zstd', ['-1', '-qc']],
    ['lz4', ['-l', '-qc']],
  ])('unpacks %s with the size behind it, where there is such a command', async (command, args) => {
    const elf = syntheticElf([{ gpa: 48 * MIB, bytes: code(5000) }]);
    const packed = spawnSync(command, args, { input: elf });
    if (packed.status !== 0) return expect(packed.error).toBeDefined();
    const size = new Uint8Array(4);
    writeLe(size, 0, 4, elf.length);
    const path = file(syntheticBzImage(Buffer.concat([packed.stdout, size])));
    const image = await prepareKernel(path, { unpack: true, cacheDir: join(dir, `cache-${command}`) });
    expect(image).toMatchObject({ protocol: 'unpacked', entry: 48 * MIB, remark: undefined });
    image.close();
  });

  it('does without a cache that cannot be written', async () => {
    const path = file(syntheticBzImage(gzipSync(kernelElf())));
    const image = await prepareKernel(path, { unpack: true, cacheDir: join(file(''), 'cache') });
    expect(image).toMatchObject({ protocol: 'unpacked', fromCache: false });
    image.close();
  });

  it('replaces a broken cache entry', async () => {
    const bytes = syntheticBzImage(gzipSync(syntheticElf([{ gpa: 32 * MIB, bytes: code(100) }])));
    (await prepare(bytes, true)).close();
    for (const name of readdirSync(cacheDir())) writeFileSync(join(cacheDir(), name), 'broken');
    const image = await prepare(bytes, true);
    expect(image).toMatchObject({ protocol: 'unpacked', fromCache: false });
    image.close();
  });

  it.each([
    ['nothing known', new Uint8Array(64), 'unknown way'],
    ['broken gzip', gzipSync(code(100_000)).fill(1, 20, 40), 'gzip'],
    ['gzip of no kernel', gzipSync(code(1000)), 'not a kernel'],
    ['broken xz', new Uint8Array(64).fill(1).with(0, 0xfd), 'unknown way'],
  ])('starts as it is with a payload of %s', async (_, payload, remark) => {
    const image = await prepare(syntheticBzImage(payload), true);
    expect(image.protocol).toBe('64-bit');
    expect(image.remark).toContain(remark);
    image.close();
  });
});

describe('prepareKernel on ELF', () => {
  it('prefers the PVH entry', async () => {
    const image = await prepare(syntheticElf([{ gpa: MIB, bytes: code(64) }], { pvhEntry: MIB + 16 }));
    expect(image).toMatchObject({ protocol: 'pvh', entry: MIB + 16 });
    image.close();
  });

  it('takes a virtual entry as what it means', async () => {
    const slide = 0xffff_8000_0000_0000n;
    const image = await prepare(
      syntheticElf([{ gpa: MIB, bytes: code(64) }], { slide, entry: slide + BigInt(MIB + 8) }),
    );
    expect(image).toMatchObject({ protocol: 'unpacked', entry: MIB + 8 });
    image.close();
  });

  it.each([
    ['for another processor', (elf: Uint8Array) => writeLe(elf, 18, 2, 183)],
    ['program headers', (elf: Uint8Array) => writeLe(elf, 56, 2, 0xffff)],
    [
      'within the segment',
      (elf: Uint8Array) => {
        writeLe(elf, 64 + 32, 4, 0x4000_0000);
        writeLe(elf, 64 + 40, 4, 0x4000_0000);
      },
    ],
    ['longer in the file', (elf: Uint8Array) => writeLe(elf, 64 + 40, 4, 1)],
    ['in no segment', (elf: Uint8Array) => writeLe(elf, 24, 4, 0)],
  ])('refuses one that is %s', async (words, spoil) => {
    const elf = syntheticElf([{ gpa: MIB, bytes: code(64) }]);
    spoil(elf);
    await expect(prepare(elf)).rejects.toMatchObject({
      code: 'KERNEL_INVALID',
      message: expect.stringContaining(words),
    });
  });
});

describe('what is no kernel', () => {
  it.each([
    ['', 'empty'],
    ['#!/bin/sh\necho this is not a kernel, but it has a few words in it all the same\n'.repeat(10), 'text'],
    [`070701${'0'.repeat(1000)}`, 'cpio'],
    [gzipSync('x'), 'gzip data'],
    [new Uint8Array(4096), 'no setup header'],
  ])('is named', async (bytes, words) => {
    await expect(prepare(bytes)).rejects.toMatchObject({
      code: 'KERNEL_INVALID',
      message: expect.stringContaining(words),
    });
  });

  it.each([
    ['protocol 2.11', (image: Uint8Array) => writeLe(image, 0x206, 2, 0x20b)],
    ['no 64-bit entry', (image: Uint8Array) => writeLe(image, 0x236, 2, 0)],
    ['zImage', (image: Uint8Array) => writeLe(image, 0x211, 1, 0)],
    ['alignment', (image: Uint8Array) => writeLe(image, 0x230, 4, 3)],
    ['protected-mode code', (image: Uint8Array) => writeLe(image, 0x1f4, 4, 0xff_ffff)],
  ])('is refused for its %s', async (words, spoil) => {
    const image = syntheticBzImage();
    spoil(image);
    await expect(prepare(image)).rejects.toMatchObject({
      code: 'KERNEL_INVALID',
      message: expect.stringContaining(words),
    });
  });

  it('is reported with path and hint when it is not there', async () => {
    const path = join(dir, 'absent');
    await expect(prepareKernel(path, { unpack: true })).rejects.toMatchObject({ code: 'KERNEL_NOT_FOUND', path });
    await expect(prepareKernel(dir, { unpack: true })).rejects.toThrow('it is a directory');
  });

  it('never fails with anything but a CausewayError', async () => {
    const elf = syntheticElf([{ gpa: MIB, bytes: code(64) }], { pvhEntry: MIB });
    const models = [syntheticBzImage().slice(0, 4096), elf];
    const path = file('');
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...models),
        fc.nat(4096),
        fc.array(fc.tuple(fc.nat(0x2a0), fc.integer({ min: 0, max: 255 })), { maxLength: 12 }),
        async (model, length, changes) => {
          const bytes = model.slice(0, length);
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          writeFileSync(path, bytes);
          try {
            (await prepareKernel(path, { unpack: false })).close();
          } catch (error) {
            if (!(error instanceof CausewayError)) throw error;
          }
          checkBootFiles({ kernel: path, initrd: path, cmdline: '', memoryBytes: 64 * MIB });
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('checkBootFiles', () => {
  const memoryBytes = 64 * MIB;

  it('finds nothing wrong with a good pair', () => {
    const kernel = file(syntheticBzImage());
    expect(checkBootFiles({ kernel, initrd: file('initrd'), cmdline: 'quiet', memoryBytes })).toEqual([]);
  });

  it('reports all faults at once, each with a hint', () => {
    const small = { kernel: file(syntheticBzImage()), initrd: join(dir, 'absent'), cmdline: 'x'.repeat(2048) };
    const faults = checkBootFiles({ ...small, memoryBytes: 16 * MIB });
    expect(faults.map((fault) => fault.code)).toEqual(['MEMORY_TOO_SMALL', 'CMDLINE_TOO_LONG', 'INITRD_NOT_FOUND']);
    expect(faults.every((fault) => fault.hint)).toBe(true);
  });

  it('knows an initrd that does not fit', () => {
    const initrd = file('');
    writeFileSync(initrd, new Uint8Array(50 * MIB));
    const faults = checkBootFiles({ kernel: file(syntheticBzImage()), initrd, cmdline: '', memoryBytes });
    expect(faults).toMatchObject([{ code: 'INITRD_TOO_BIG', path: initrd }]);
  });

  it('refuses what is not a file', () => {
    const initrd = join(dir, 'directory');
    mkdirSync(initrd);
    const faults = checkBootFiles({ kernel: '/dev/null', initrd, cmdline: '', memoryBytes });
    expect(faults.map((fault) => fault.code)).toEqual(['KERNEL_NOT_FOUND', 'INITRD_NOT_FOUND']);
  });
});

it('tells packers apart', () => {
  expect(packingOf(new Uint8Array([0x28, 0xb5, 0x2f, 0xfd]))).toBe('zstd');
  expect(packingOf(new Uint8Array([0x02, 0x21, 0x4c, 0x18]))).toBe('lz4');
  expect(packingOf(new Uint8Array(16))).toBeUndefined();
});

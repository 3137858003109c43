/** The addon without KVM: files, fds, watches, mappings, views, errors. Needs no privilege. */

import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addonPath, buildAddon } from './build.mjs';
import { FakeKernel } from './fake/fake-kernel.ts';
import { isKernelError, loadNative } from './index.ts';
import type { Fd, Hva, Iova, Native } from './types.ts';

const EIO = -5;
const EBADF = -9;
const EINVAL = -22;

const directory = mkdtempSync(join(tmpdir(), 'causeway-native-'));
const path = (name: string) => join(directory, name);
const code = (name: string) => expect.objectContaining({ name: 'KernelError', code: name });
let native: Native;

beforeAll(async () => {
  await buildAddon();
  native = loadNative();
}, 120_000);
afterAll(() => rmSync(directory, { recursive: true }));

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 2000;
  while (!condition() && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 2));
}

function caught(body: () => unknown): unknown {
  try {
    return body();
  } catch (error) {
    return error;
  }
}

describe('the seam', () => {
  it('is whole: the addon and the fake have the same methods', () => {
    const fake = new FakeKernel();
    const own = Object.keys(native).sort();
    expect(own).toContain('vfioSetIrqs');
    expect(own.filter((name) => !(name in fake))).toEqual([]);
    expect(Object.keys(fake.files)).not.toContain('open');
    const parts = new Set([
      'journalBook',
      'files',
      'fds',
      'memory',
      'kvm',
      'vfio',
      'iommufd',
      'process',
      'pci',
      'devices',
    ]);
    expect(Object.keys(fake).filter((name) => !(name in native) && !parts.has(name))).toEqual([]);
  });

  it('is one object per thread', () => {
    expect(loadNative()).toBe(native);
    expect(() => loadNative(path('absent.node'))).toThrow(/npm run build/);
  });

  it('throws KernelErrors that say what failed', () => {
    const error = caught(() => native.open(path('absent'), 'r'));
    expect(isKernelError(error, 'ENOENT')).toBe(true);
    expect(error).toMatchObject({ name: 'KernelError', errno: 2, syscall: 'open', path: path('absent') });
    const ioctl = caught(() => native.vfioSetIommu(0 as Fd, 3));
    expect(ioctl).toMatchObject({ syscall: 'VFIO_SET_IOMMU', code: expect.stringMatching(/^E/) });
    expect(ioctl).not.toHaveProperty('path');
    expect(String(ioctl)).toMatch(/^KernelError: VFIO_SET_IOMMU: E[A-Z]+ \(.+\)$/);
  });

  it('refuses arguments of the wrong type by name', () => {
    expect(() => native.close('3' as unknown as Fd)).toThrow(/fd: expected a 32-bit integer/);
    expect(() => native.eventfdSignal(0 as Fd, -1)).toThrow(TypeError);
    expect(() => native.mmioWrite(0 as Hva, 0, 4, 1 as unknown as bigint)).toThrow(/value: expected a bigint/);
    expect(() => native.vfioBindIommufd(0 as Fd, 0 as Fd, new Uint8Array(15))).toThrow(/token: expected .* 16 bytes/);
  });

  it('calls iommufd by its own numbers', () => {
    const fd = native.eventfd();
    const calls = {
      IOMMU_IOAS_ALLOC: () => native.iommufdAllocIoas(fd),
      IOMMU_DESTROY: () => native.iommufdDestroy(fd, 1),
      IOMMU_IOAS_IOVA_RANGES: () => native.iommufdIovaRanges(fd, 1),
      IOMMU_IOAS_MAP: () => native.iommufdMap(fd, 1, 0 as Hva, 0 as Iova, 4096),
      IOMMU_IOAS_UNMAP: () => native.iommufdUnmap(fd, 1, 0 as Iova, 4096),
      VFIO_DEVICE_BIND_IOMMUFD: () => native.vfioBindIommufd(fd, fd, new Uint8Array(16)),
      VFIO_DEVICE_ATTACH_IOMMUFD_PT: () => native.vfioAttachIoas(fd, 1),
      VFIO_DEVICE_DETACH_IOMMUFD_PT: () => native.vfioDetachIoas(fd),
    };
    for (const [syscall, call] of Object.entries(calls))
      expect(caught(call)).toMatchObject({ syscall, code: 'ENOTTY' });
    native.close(fd);
  });

  it('tells and sets limits', () => {
    const { soft, hard } = native.resourceLimit('nofile');
    expect(soft).toBeLessThanOrEqual(hard);
    native.setResourceLimit('nofile', soft, hard);
    expect(native.pageSizeBytes).toBe(4096);
  });
});

describe('files', () => {
  it('reads, writes without creating, lists and follows', () => {
    writeFileSync(path('a'), 'long content');
    native.writeFile(path('a'), 'LONG');
    expect(new TextDecoder().decode(native.readFile(path('a')))).toBe('LONG content'); // not truncated: sysfs
    expect(() => native.writeFile(path('none'), 'x')).toThrow(expect.objectContaining({ code: 'ENOENT', errno: 2 }));
    symlinkSync('a', path('link'));
    expect(native.readLink(path('link'))).toBe('a');
    expect(native.readDir(directory).sort()).toEqual(['a', 'link']);
    expect([native.exists(path('a')), native.exists(path('b'))]).toEqual([true, false]);
    expect([native.access(path('a'), 'rw'), native.access(path('b'), 'r')]).toEqual([0, -2]);
    chmodSync(path('a'), 0o620);
    expect(native.readOwnedFile(path('a'))).toMatchObject({ uid: process.getuid?.(), mode: 0o620 });
    expect(() => native.readFile(path('b'))).toThrow(expect.objectContaining({ name: 'KernelError', path: path('b') }));
  });
});

it('readAll fills a whole array from an offset, or says why not', () => {
  writeFileSync(
    path('whole'),
    Uint8Array.from({ length: 100_000 }, (_, i) => i % 251),
  );
  const fd = native.open(path('whole'), 'r');
  const bytes = new Uint8Array(99_990);
  expect(native.readAll(fd, 10, bytes)).toBe(0);
  expect([bytes[0], bytes.at(-1)]).toEqual([10, 99_999 % 251]);
  expect(native.readAll(fd, 11, bytes), 'the file ends before').toBe(EIO);
  expect(() => native.readAll(fd, 0, new Uint16Array(2) as unknown as Uint8Array)).toThrow(/Uint8Array/);
  native.close(fd);
  expect(native.readAll(fd, 0, bytes)).toBe(EBADF);
});

describe('pread and pwrite', () => {
  it('move exactly one width, inside the buffer', () => {
    writeFileSync(
      path('data'),
      Uint8Array.from({ length: 16 }, (_, i) => i),
    );
    const fd = native.open(path('data'), 'rw');
    const bytes = new Uint8Array(8);
    expect(native.pread(fd, 4, bytes, 2, 4)).toBe(0);
    expect([...bytes]).toEqual([0, 0, 4, 5, 6, 7, 0, 0]);
    expect(native.pwrite(fd, 0, bytes, 2, 2)).toBe(0);
    expect([...readFileSync(path('data')).subarray(0, 4)]).toEqual([4, 5, 2, 3]);
    expect(native.pread(fd, 14, bytes, 0, 4)).toBe(EIO); // short
    expect(native.pread(fd, 0, bytes, 6, 4)).toBe(EINVAL);
    expect(native.pread(fd, 0, bytes, 0, 3)).toBe(EINVAL);
    expect(native.pread(fd, -1, bytes, 0, 4)).toBe(EINVAL);
    expect(native.pwrite(fd, 0, bytes, 0xffffffff, 1)).toBe(EINVAL);
    expect(native.pread(fd, 0, new Uint16Array(4) as unknown as Uint8Array, 0, 2)).toBe(EINVAL);
    native.close(fd);
    expect(native.pread(fd, 0, bytes, 0, 4)).toBe(EBADF);
  });
});

describe('eventfds and watches', () => {
  it('count, take and poll', () => {
    const fd = native.eventfd();
    expect(native.eventfdTake(fd)).toBe(0);
    native.eventfdSignal(fd, 2);
    native.eventfdSignal(fd, 3);
    expect(native.isReadable(fd)).toBe(true);
    const copy = native.dup(fd);
    expect(native.eventfdTake(copy)).toBe(5);
    expect(native.isReadable(fd)).toBe(false);
    native.close(copy);
    native.close(fd);
    expect(() => native.isReadable(fd)).toThrow(code('EBADF'));
  });

  it('call the listener with everything that came, and take it', async () => {
    const fd = native.eventfd();
    let sum = 0;
    native.watch(fd, (count) => {
      sum += count;
    });
    expect(() => native.watch(fd, () => {})).toThrow(code('EEXIST'));
    for (let i = 0; i < 1000; i++) native.eventfdSignal(fd, 1);
    await until(() => sum === 1000);
    expect(sum).toBe(1000);
    expect(native.eventfdTake(fd)).toBe(0);
    native.close(fd);
  });

  it('call nobody after unwatch, even when the count is on its way', async () => {
    const [first, second] = [native.eventfd(), native.eventfd()];
    const calls: string[] = [];
    native.watch(first, () => {
      calls.push('first');
      native.unwatch(second);
    });
    native.watch(second, () => {
      calls.push('second');
      native.unwatch(first);
    });
    native.eventfdSignal(first, 1);
    native.eventfdSignal(second, 1);
    // Both counts are taken by the epoll thread while this one is busy.
    const busyUntil = Date.now() + 30;
    while (Date.now() < busyUntil);
    await until(() => calls.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(calls).toHaveLength(1);
    native.close(first);
    native.close(second);
  });

  it('refuse what epoll cannot watch', () => {
    writeFileSync(path('plain'), 'x');
    const fd = native.open(path('plain'), 'r');
    expect(() => native.watch(fd, () => {})).toThrow(code('EPERM'));
    native.close(fd);
  });
});

describe('memory', () => {
  const MIB = 2 ** 20;

  it('maps a memfd aligned, shows it in views, and cannot be shrunk', () => {
    const fd = native.memfd('test', 4 * MIB, 0);
    const hva = native.map(fd, 0, 4 * MIB, { align: 2 * MIB, phase: 0x3000 });
    expect(hva % (2 * MIB)).toBe(0x3000);
    const [whole, part] = [new Uint8Array(native.view(hva, 4 * MIB)), native.view((hva + 0x1000) as Hva, 16)];
    whole[0x1004] = 7;
    expect(new Uint8Array(part)[4]).toBe(7);
    expect(() => truncateSync(`/proc/self/fd/${fd}`, 0)).toThrow(/EPERM/);
    native.unmap(hva);
    native.close(fd);
  });

  it('detaches views at unmap: empty arrays, TypeErrors, never a fault', () => {
    const hva = native.mapAnonymous(0x2000);
    const buffer = native.view(hva, 0x2000);
    const [bytes, data] = [new Uint8Array(buffer), new DataView(buffer)];
    bytes.fill(1);
    native.unmap(hva);
    expect([buffer.byteLength, bytes.length, bytes[0]]).toEqual([0, 0, undefined]);
    expect(() => data.getUint8(0)).toThrow(TypeError);
    expect(native.pread(0 as Fd, 0, bytes, 0, 1)).toBe(EINVAL);
    native.unmap(hva);
    expect(() => native.view(hva, 16)).toThrow(code('EFAULT'));
    expect(() => native.mmioRead(hva, 0, 4)).toThrow(code('EFAULT'));
  });

  it('refuses views beyond a mapping and beyond 4 GiB', () => {
    const hva = native.mapAnonymous(0x1000);
    expect(() => native.view(hva, 0x1001)).toThrow(code('EFAULT'));
    expect(() => native.view(hva, 5 * 2 ** 30)).toThrow(/at most 4 GiB/);
    native.unmap(hva);
  });

  it('makes volatile accesses of each width', () => {
    const hva = native.mapAnonymous(0x1000);
    native.mmioWrite(hva, 8, 8, 0x1122334455667788n);
    expect(native.mmioRead(hva, 8, 4)).toBe(0x55667788n);
    expect(native.mmioRead(hva, 14, 2)).toBe(0x1122n);
    native.mmioWrite(hva, 15, 1, 0xffn);
    expect(native.mmioRead(hva, 8, 8)).toBe(0xff22334455667788n);
    expect(() => native.mmioRead(hva, 2, 4)).toThrow(code('EINVAL'));
    expect(() => native.mmioRead(hva, 0xffc, 8)).toThrow();
    native.unmap(hva);
  });

  it('turns the SIGBUS of a revoked mapping into EIO, again and again', () => {
    writeFileSync(path('shrinks'), new Uint8Array(4096));
    const fd = native.open(path('shrinks'), 'rw');
    const hva = native.map(fd, 0, 4096);
    expect(native.mmioRead(hva, 0, 4)).toBe(0n);
    truncateSync(path('shrinks'), 0);
    for (let i = 0; i < 3; i++) {
      expect(() => native.mmioRead(hva, 0, 4)).toThrow(code('EIO'));
      expect(() => native.mmioWrite(hva, 0, 4, 1n)).toThrow(code('EIO'));
    }
    truncateSync(path('shrinks'), 4096);
    expect(native.mmioRead(hva, 0, 4)).toBe(0n);
    native.unmap(hva);
    native.close(fd);
  });
});

describe('two threads', () => {
  const isMapped = (name: string) => readFileSync('/proc/self/maps', 'utf8').includes(name);

  async function setup(name: string) {
    const fd = native.memfd(name, 0x10000, 0);
    const hva = native.map(fd, 0, 0x10000);
    const eventfd = native.eventfd();
    native.close(fd);
    new Uint8Array(native.view(hva, 0x10000))[1] = 99;
    const worker = new Worker(fileURLToPath(new URL('./fixtures/view-worker.mjs', import.meta.url)), {
      workerData: { addon: addonPath, hva, sizeBytes: 0x10000, eventfd },
    });
    await once(worker, 'message');
    return { hva, eventfd, worker };
  }

  async function ask(worker: Worker, command: string): Promise<unknown> {
    const answer = once(worker, 'message');
    worker.postMessage(command);
    return (await answer)[0];
  }

  it('keep memory mapped until the last view is detached', async () => {
    const { hva, eventfd, worker } = await setup('two-threads-a');
    native.unmap(hva);
    expect(await ask(worker, 'read')).toEqual({ value: 99, length: 0x10000 });
    expect(isMapped('two-threads-a')).toBe(true);
    expect(await ask(worker, 'unmap')).toEqual({ length: 0 });
    expect(isMapped('two-threads-a')).toBe(false);
    const exit = once(worker, 'exit');
    worker.postMessage('stop');
    await exit;
    native.close(eventfd);
  });

  it('unmap when the thread that holds the last view ends', async () => {
    const { hva, eventfd, worker } = await setup('two-threads-b');
    native.unmap(hva);
    await worker.terminate();
    expect(isMapped('two-threads-b')).toBe(false);
    native.close(eventfd);
  });

  it('deliver a watch in the thread that watches, and forget it when that ends', async () => {
    const { hva, eventfd, worker } = await setup('two-threads-c');
    const message = once(worker, 'message');
    native.eventfdSignal(eventfd, 4);
    expect((await message)[0]).toEqual({ watched: 4 });
    await worker.terminate();
    native.eventfdSignal(eventfd, 2);
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(native.eventfdTake(eventfd)).toBe(2);
    native.unmap(hva);
    native.close(eventfd);
  });
});

/** File descriptors of the fake kernel: the fd table, eventfds, watches. */

import { ERRNO, kernelError } from '../kernel-error.ts';
import type { Fd, FileDescriptors } from '../types.ts';
import type { FakeFiles } from './fake-files.ts';
import { FakeEventfd, type OpenFile } from './open-file.ts';

interface Watch {
  readonly file: FakeEventfd;
  readonly listener: (count: number) => void;
  readonly keepAlive: boolean;
}

export class FakeFds implements FileDescriptors {
  private readonly table = new Map<number, OpenFile>();
  private readonly watches = new Map<number, Watch>();
  private readonly files: FakeFiles;
  private next = 3;

  constructor(files: FakeFiles) {
    this.files = files;
  }

  /** Gives an open file a number. Numbers are never reused, so that a stale one shows as EBADF. */
  install(file: OpenFile): Fd {
    const fd = this.next++;
    this.table.set(fd, file);
    return fd as Fd;
  }

  /**
   * The file of an fd, of the class that the call needs.
   * @throws KernelError EBADF for no file, `wrongKind` (ENOTTY) for another one
   */
  get<T extends OpenFile>(
    fd: number,
    kind: abstract new (...args: never[]) => T,
    syscall: string,
    wrongKind = 'ENOTTY',
  ): T {
    const file = this.table.get(fd);
    if (file === undefined) throw kernelError(syscall, 'EBADF');
    if (!(file instanceof kind)) throw kernelError(syscall, wrongKind);
    return file;
  }

  find(fd: number): OpenFile | undefined {
    return this.table.get(fd);
  }

  /** Fds that nobody closed. */
  list(): { fd: Fd; label: string }[] {
    return [...this.table].map(([fd, file]) => ({ fd: fd as Fd, label: file.label }));
  }

  open(path: string, mode: 'r' | 'rw'): Fd {
    return this.install(this.files.openFile(path, mode));
  }

  close(fd: Fd): void {
    const file = this.table.get(fd);
    if (file === undefined) throw kernelError('close', 'EBADF');
    this.unwatch(fd);
    this.table.delete(fd);
    file.drop();
  }

  dup(fd: Fd): Fd {
    const file = this.table.get(fd);
    if (file === undefined) throw kernelError('F_DUPFD_CLOEXEC', 'EBADF');
    file.hold();
    return this.install(file);
  }

  pread(fd: Fd, offset: number, bytes: Uint8Array, at: number, width: number): number {
    const part = exactPart(bytes, at, width);
    if (part === undefined) return -ERRNO.EINVAL!;
    const moved = this.table.get(fd)?.pread(offset, part) ?? -ERRNO.EBADF!;
    return moved === width ? 0 : moved < 0 ? moved : -ERRNO.EIO!;
  }

  readAll(fd: Fd, offset: number, bytes: Uint8Array): number {
    for (let at = 0; at < bytes.length; at += 4) {
      const part = bytes.subarray(at, at + 4);
      const moved = this.table.get(fd)?.pread(offset + at, part) ?? -ERRNO.EBADF!;
      if (moved !== part.length) return moved < 0 ? moved : -ERRNO.EIO!;
    }
    return 0;
  }

  pwrite(fd: Fd, offset: number, bytes: Uint8Array, at: number, width: number): number {
    const part = exactPart(bytes, at, width);
    if (part === undefined) return -ERRNO.EINVAL!;
    const moved = this.table.get(fd)?.pwrite(offset, part) ?? -ERRNO.EBADF!;
    return moved === width ? 0 : moved < 0 ? moved : -ERRNO.EIO!;
  }

  eventfd(): Fd {
    return this.install(new FakeEventfd());
  }

  eventfdSignal(fd: Fd, count: number): void {
    this.get(fd, FakeEventfd, 'write', 'EINVAL').signal(count);
  }

  eventfdTake(fd: Fd): number {
    return this.get(fd, FakeEventfd, 'read', 'EINVAL').take();
  }

  isReadable(fd: Fd): boolean {
    return this.get(fd, FakeEventfd, 'poll', 'EINVAL').count > 0;
  }

  watch(fd: Fd, listener: (count: number) => void, keepAlive = false): void {
    const file = this.get(fd, FakeEventfd, 'epoll_ctl', 'EPERM');
    if (this.watches.has(fd)) throw kernelError('epoll_ctl', 'EEXIST');
    this.watches.set(fd, { file, listener, keepAlive });
    file.onReadable = () => this.schedule(keepAlive);
    if (file.count > 0) this.schedule(keepAlive);
  }

  unwatch(fd: Fd): void {
    const watch = this.watches.get(fd);
    if (watch === undefined) return;
    watch.file.onReadable = undefined;
    this.watches.delete(fd);
  }

  private schedule(keepAlive: boolean): void {
    const immediate = setImmediate(() => this.flush());
    if (!keepAlive) immediate.unref();
  }

  /** Delivers what is pending to the watches now; counts that come up meanwhile too. */
  flush(): void {
    for (let again = true; again; ) {
      again = false;
      for (const [fd, watch] of [...this.watches]) {
        // An earlier listener of this round may have ended the watch.
        if (this.watches.get(fd) !== watch || watch.file.count === 0) continue;
        again = true;
        watch.listener(watch.file.take());
      }
    }
  }
}

function exactPart(bytes: Uint8Array, at: number, width: number): Uint8Array | undefined {
  if (![1, 2, 4, 8].includes(width) || at < 0 || at + width > bytes.length) return undefined;
  return bytes.subarray(at, at + width);
}

/** The host's kernel log from some moment on, and what in it accuses a device or the host itself. */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import type { HostBdf } from '../../../native/types.ts';

/** Gives every line that was written since the last call. */
export type LogSource = () => readonly string[];

/** A record of the kernel log is at most this long (kernel: printk, CONSOLE_EXT_LOG_MAX). */
const RECORD_BYTES = 8192;

/**
 * Reads /dev/kmsg, from now on. Without the right to read it there are no lines, and so no accusations.
 * @see kernel Documentation/ABI/testing/dev-kmsg
 */
export function openKernelLog(path = '/dev/kmsg'): LogSource & Disposable {
  const fd = tryOpen(path);
  const record = new Uint8Array(RECORD_BYTES);
  const read = (): string[] => {
    const lines: string[] = [];
    for (;;) {
      try {
        const size = fd === undefined ? 0 : readSync(fd, record);
        if (size === 0) return lines;
        // `6,1234,56789,-;text`; lines that begin with a space are properties of the record.
        const text = new TextDecoder().decode(record.subarray(0, size));
        lines.push(
          ...text
            .slice(text.indexOf(';') + 1)
            .split('\n')
            .filter((line) => line !== '' && !line.startsWith(' ')),
        );
      } catch (error) {
        // EPIPE: records were overwritten before they were read; the next read goes on.
        if ((error as NodeJS.ErrnoException).code !== 'EPIPE') return lines;
      }
    }
  };
  read();
  return Object.assign(read, {
    [Symbol.dispose]: () => {
      if (fd !== undefined) closeSync(fd);
    },
  });
}

function tryOpen(path: string): number | undefined {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
}

/** VT-d names the function as `[01:00.0]` (`[0000:01:00.0]` on newer kernels), AMD as `device=01:00.0`. */
export function iommuFaults(lines: readonly string[], bdf: HostBdf): string[] {
  const short = bdf.slice(bdf.indexOf(':') + 1);
  return lines.filter(
    (line) => /DMAR:.*(fault|Request device)|IO_PAGE_FAULT|arm-smmu.*(fault|event)/i.test(line) && line.includes(short),
  );
}

/** What says that the host's kernel itself is in trouble. */
export function hostTrouble(lines: readonly string[]): string[] {
  return lines.filter((line) =>
    /\b(BUG:|Oops:|kernel BUG at|general protection fault|soft lockup|hung task|blocked for more than|KASAN:|UBSAN:)/.test(
      line,
    ),
  );
}

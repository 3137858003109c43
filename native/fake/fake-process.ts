/** Limits of the fake process. */

import { kernelError } from '../kernel-error.ts';
import type { Process } from '../types.ts';

interface Limit {
  readonly soft: number;
  readonly hard: number;
}

export class FakeProcess implements Process {
  readonly pageSizeBytes = 4096;
  readonly limits: Record<'memlock' | 'nofile', Limit> = {
    memlock: { soft: Number.POSITIVE_INFINITY, hard: Number.POSITIVE_INFINITY },
    nofile: { soft: 1024, hard: 524288 },
  };
  /** CAP_SYS_RESOURCE: may raise hard limits. */
  isPrivileged = false;
  /** CAP_IPC_LOCK: pins without limit. */
  canLockMemory = false;

  /** How much DMA mappings may pin. */
  get pinnableBytes(): number {
    return this.canLockMemory ? Number.POSITIVE_INFINITY : this.limits.memlock.soft;
  }

  resourceLimit(which: 'memlock' | 'nofile'): Limit {
    return { ...this.limits[which] };
  }

  setResourceLimit(which: 'memlock' | 'nofile', soft: number, hard: number): void {
    if (soft > hard) throw kernelError('setrlimit', 'EINVAL');
    if (hard > this.limits[which].hard && !this.isPrivileged) throw kernelError('setrlimit', 'EPERM');
    this.limits[which] = { soft, hard };
  }

  /** Empty: there is no compiler behind the fake. */
  structLayout(): Readonly<Record<string, number>> {
    return {};
  }
}

/** Guests of the tests: a stock Debian kernel and an initramfs whose script is the test's. */
import { buildGuestInitramfs, type GuestInitramfsSpec, guestKernel } from '../../lab/index.ts';
import { prepareKernel } from '../../vmm/boot/index.ts';
import { say } from './test-lab.ts';

/**
 * The command line of every guest. `pci=noearly`: the emulated CPU is an old AMD family, for which Linux searches all
 * buses for a GART: 33 000 exits before the first line. `panic=-1`: a panic reboots at once, and the test sees that.
 */
export const GUEST_CMDLINE = 'console=ttyS0 quiet panic=-1 pci=noearly';

/** Files to boot, as the configuration of a VM takes them. */
export interface Guest {
  readonly kernel: string;
  readonly initrd: string;
  readonly cmdline: string;
}

/** @param series Debian's kernel series: `6.1`, `6.12` */
export async function buildGuest(
  series: string,
  spec: Omit<GuestInitramfsSpec, 'kernel'>,
  moreWords = '',
): Promise<Guest> {
  const kernel = await guestKernel(series, { log: say });
  const initrd = await buildGuestInitramfs({ ...spec, kernel }, { log: say });
  await warmKernelCache(kernel.vmlinuz);
  return { kernel: kernel.vmlinuz, initrd, cmdline: `${GUEST_CMDLINE} ${moreWords}`.trim() };
}

/** Unpacks the kernel here and now: what a lab adds to the cache is thrown away with it, and its CPU is slow. */
async function warmKernelCache(path: string): Promise<void> {
  const image = await prepareKernel(path, { unpack: true });
  image.close();
}

/** MSRs that a vCPU starts with; firmware would set them (SDM vol. 4). */
import type { Msr } from '../../native/types.ts';

const IA32_MISC_ENABLE = 0x1a0;
const IA32_MTRR_DEF_TYPE = 0x2ff;

export const BOOT_MSRS: readonly Msr[] = [
  // Fast strings.
  { index: IA32_MISC_ENABLE, value: 1n },
  // Enabled, fixed ranges enabled, default write-back. Linux up to 6.1 gives PAT up, and with it write-combining, when MTRRs are off.
  { index: IA32_MTRR_DEF_TYPE, value: 0xc06n },
];

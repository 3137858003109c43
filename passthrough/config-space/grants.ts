/**
 * Grants: holes that an administrator opens in the closed config space of an assigned device, as the founding mail of
 * VFIO wanted them: `<offset> <readbits> <writebits>`, hexadecimal, each for one dword. They restrict the guest; whoever
 * holds the device's fd can write past them.
 */
import type { ConfigIssue } from '../../vmm/base/errors.ts';
import { CausewayError } from '../../vmm/base/errors.ts';

/** Bits of one dword that a guest may use on the hardware. Masks are unsigned 32-bit values. */
export interface ConfigGrant {
  /** Aligned to a dword. */
  readonly offset: number;
  /** Read from the hardware at every access. */
  readonly readBits: number;
  /** Written to the hardware by read-modify-write. More than `readBits` only where `writeOnly` says that this is meant. */
  readonly writeBits: number;
  readonly writeOnly?: boolean;
}

const HEX = /^(?:0x)?([0-9a-f]{1,8})$/i;
const CONFIG_SPACE_END = 0x1000;
const FORM = '<offset> <readbits> <writebits> [wo], all hexadecimal';

/**
 * One line, without comment.
 * @returns the grant, or what is wrong with it
 */
export function parseGrant(line: string): ConfigGrant | string {
  const words = line.trim().split(/\s+/);
  const [offset, readBits, writeBits] = words.slice(0, 3).map((word) => {
    const digits = HEX.exec(word)?.[1];
    return digits === undefined ? undefined : Number.parseInt(digits, 16);
  });
  if (words.length < 3 || words.length > 4) return `"${line.trim()}" is not ${FORM}`;
  if (offset === undefined || readBits === undefined || writeBits === undefined) {
    return `"${words.slice(0, 3).find((word) => !HEX.test(word))}" is no hexadecimal number of up to 32 bits`;
  }
  if (words.length === 4 && words[3] !== 'wo') return `"${words[3]}" is not known; only "wo" may follow the masks`;
  return checkForm({ offset, readBits, writeBits, ...(words.length === 4 ? { writeOnly: true } : {}) });
}

/** The same rules for a grant that did not come from text. @returns the grant, or what is wrong with it */
export function checkForm(grant: ConfigGrant): ConfigGrant | string {
  const { offset, readBits, writeBits, writeOnly } = grant;
  const isMask = (bits: number): boolean => Number.isInteger(bits) && bits >= 0 && bits <= 0xffff_ffff;
  if (!Number.isInteger(offset) || offset < 0 || offset >= CONFIG_SPACE_END) {
    return `offset ${hexOf(offset)} lies outside of config space`;
  }
  if (offset % 4 !== 0) return `offset ${hexOf(offset)} is not aligned to 4 bytes`;
  if (!isMask(readBits) || !isMask(writeBits)) return 'a mask is a number of 32 bits';
  if (!writeOnly && (writeBits & ~readBits) !== 0) {
    return `${hexOf((writeBits & ~readBits) >>> 0)} may be written and not read: add "wo" if that is meant`;
  }
  return grant;
}

/**
 * Grants given as lines, for one device. Empty lines and comments (#) are allowed.
 * @throws CausewayError CONFIG_INVALID with every faulty line; none is taken then
 */
export function parseGrants(lines: readonly string[], source: string): ConfigGrant[] {
  const issues: ConfigIssue[] = [];
  const grants: ConfigGrant[] = [];
  for (const [i, text] of lines.entries()) {
    const line = text.replace(/#.*/, '').trim();
    if (line === '') continue;
    const grant = parseGrant(line);
    if (typeof grant === 'string') issues.push({ path: `${source}:${i + 1}`, message: grant });
    else grants.push(grant);
  }
  throwIssues(issues);
  return grants;
}

/** @throws CausewayError CONFIG_INVALID when there is an issue */
export function throwIssues(issues: readonly ConfigIssue[], hint: string = `write ${FORM}`): void {
  if (issues.length === 0) return;
  const lines = issues.map(({ path, message }) => `${path}: ${message}`);
  throw new CausewayError('CONFIG_INVALID', lines.join('\n'), { issues, hint });
}

/** The line that {@link parseGrant} reads back. */
export function formatGrant({ offset, readBits, writeBits, writeOnly }: ConfigGrant): string {
  const mask = (bits: number): string => bits.toString(16).padStart(8, '0');
  return `${offset.toString(16).padStart(2, '0')} ${mask(readBits)} ${mask(writeBits)}${writeOnly ? ' wo' : ''}`;
}

function hexOf(value: number): string {
  return `0x${value.toString(16)}`;
}

/** Sizes as people write them: `512M`, `6GiB`, `1073741824`. */
import { GIB, KIB, MIB } from './bits.ts';

const FACTORS: Readonly<Record<string, number>> = { '': 1, k: KIB, m: MIB, g: GIB, t: 1024 * GIB };

/**
 * Parses a size into bytes. `K M G T`, with or without `iB` or `B`, are powers of 1024.
 * Returns undefined for what is not a positive whole number of bytes below 2^53.
 */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text.trim());
  if (!match) return undefined;
  const bytes = Number(match[1]) * (FACTORS[match[2]!.toLowerCase()] ?? Number.NaN);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}

/** `128 KiB`, `16 MiB`, `6 GiB`: the largest unit that divides the size exactly. */
export function formatSize(bytes: number): string {
  for (const [unit, factor] of [
    ['GiB', GIB],
    ['MiB', MIB],
    ['KiB', KIB],
  ] as const) {
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor} ${unit}`;
  }
  return `${bytes} B`;
}

/** `0xfee00000` */
export function hex(value: number, digits = 0): string {
  return `0x${value.toString(16).padStart(digits, '0')}`;
}

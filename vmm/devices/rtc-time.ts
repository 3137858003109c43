/** The MC146818's registers, and the time as it stands in them (MC146818A data sheet, "Address Map"). */

export const RTC = {
  seconds: 0x00,
  minutes: 0x02,
  hours: 0x04,
  /** 1 is Sunday. */
  weekday: 0x06,
  day: 0x07,
  month: 0x08,
  year: 0x09,
  statusA: 0x0a,
  statusB: 0x0b,
  statusC: 0x0c,
  statusD: 0x0d,
  /** Not of the chip, but where PCs keep it; the FADT's CENTURY field may name it. */
  century: 0x32,
} as const;

export const STATUS_A = { updateInProgress: 0x80, divider32768: 0x20, rate1024: 0x06 } as const;
export const STATUS_B = { hours24: 0x02, binary: 0x04, set: 0x80 } as const;
export const STATUS_D = { valid: 0x80 } as const;

const PM = 0x80;

/** Writes a time, Unix milliseconds, in the format that status B asks for. */
export function timeToRegisters(timeMs: number, registers: Uint8Array): void {
  const status = registers[RTC.statusB]!;
  const encode = (value: number): number =>
    status & STATUS_B.binary ? value : (Math.floor(value / 10) << 4) | (value % 10);
  const date = new Date(timeMs);
  const hours = date.getUTCHours();
  registers[RTC.seconds] = encode(date.getUTCSeconds());
  registers[RTC.minutes] = encode(date.getUTCMinutes());
  registers[RTC.hours] = status & STATUS_B.hours24 ? encode(hours) : encode(hours % 12 || 12) | (hours >= 12 ? PM : 0);
  registers[RTC.weekday] = encode(date.getUTCDay() + 1);
  registers[RTC.day] = encode(date.getUTCDate());
  registers[RTC.month] = encode(date.getUTCMonth() + 1);
  registers[RTC.year] = encode(date.getUTCFullYear() % 100);
  registers[RTC.century] = encode(Math.floor(date.getUTCFullYear() / 100));
}

/** The time that stands in the registers, Unix milliseconds; undefined when it is no date. The weekday is not looked at. */
export function timeFromRegisters(registers: Uint8Array): number | undefined {
  const status = registers[RTC.statusB]!;
  const decode = (value: number): number => (status & STATUS_B.binary ? value : (value >> 4) * 10 + (value & 15));
  const field = (register: number): number => decode(registers[register]!);
  const rawHours = registers[RTC.hours]!;
  const hours = status & STATUS_B.hours24 ? decode(rawHours) : (decode(rawHours & ~PM) % 12) + (rawHours & PM ? 12 : 0);
  const year = field(RTC.century) * 100 + field(RTC.year);
  const parts = [year, field(RTC.month) - 1, field(RTC.day), hours, field(RTC.minutes), field(RTC.seconds)] as const;
  const time = Date.UTC(...parts);
  const date = new Date(time);
  const same =
    date.getUTCFullYear() === parts[0] &&
    date.getUTCMonth() === parts[1] &&
    date.getUTCDate() === parts[2] &&
    date.getUTCHours() === parts[3] &&
    date.getUTCMinutes() === parts[4] &&
    date.getUTCSeconds() === parts[5];
  return same ? time : undefined;
}

/**
 * A kernel module that goes wrong when it is loaded, made out of a good one of the guest's own kernel: its first
 * instructions are replaced. It needs neither headers nor a compiler, and fits any kernel that loads unsigned modules.
 */
import { type Kernel, ModuleTree } from '../../lab/index.ts';

/** What the module does, as x86-64 code. */
const FAULTS = {
  /** mov qword [0], 0: a NULL pointer is written to. */
  oops: [0x48, 0xc7, 0x04, 0x25, 0, 0, 0, 0, 0, 0, 0, 0],
  /** cli; jmp to itself: the CPU answers nothing but an NMI. */
  hang: [0xfa, 0xeb, 0xfe],
  /** jmp to itself: interrupts are served, programs are not. */
  spin: [0xeb, 0xfe],
} as const;

export type ModuleFault = keyof typeof FAULTS;

/** Small, without dependencies, in every distribution's kernel. */
const VICTIM = 'dummy';
const ENDBR64 = 0xfa1e_0ff3;
const CALL = 0xe8;
const SIGNATURE_MARK = '~Module signature appended~\n';
const SIGNATURE_HEADER_SIZE = 12;
const RELOCATION_SIZE = 24;
const SYMBOL_SIZE = 24;

/** The file of the module; it is called `dummy` still. @throws LabError LAB_MODULE_MISSING; Error when it is built in */
export async function brokenModule(kernel: Kernel, fault: ModuleFault): Promise<Uint8Array> {
  if (kernel.modulesDir === undefined) throw new Error(`the kernel ${kernel.version} has no modules`);
  const tree = await ModuleTree.open(kernel.modulesDir);
  const module = (await tree.closure([VICTIM])).find(({ name }) => name === VICTIM);
  if (!module) throw new Error(`${VICTIM} is built into the kernel ${kernel.version}`);
  return breakModule(module.data, FAULTS[fault]);
}

/** Replaces what `init_module` does after the hook for the function tracer, which the kernel checks when it loads it. */
export function breakModule(module: Uint8Array, code: readonly number[]): Uint8Array {
  const elf = withoutSignature(Buffer.from(module));
  const sections = readSections(elf);
  const init = findInit(elf, sections);
  const text = sections[init.section]!;
  let at = init.offset;
  if (elf.readUInt32LE(text.offset + at) === ENDBR64) at += 4;
  if (elf[text.offset + at] === CALL) at += 5;
  elf.set(code, text.offset + at);
  for (const section of sections) {
    // References of code that is gone would be written over the new one.
    if (section.type === 4 && section.info === init.section) keepRelocations(elf, section, (offset) => offset < at);
    // Lists of places in that code which the kernel patches.
    if (/^\.(rela)?\.?(return_sites|retpoline_sites|call_sites|static_call_sites)$/.test(section.name)) {
      elf.writeBigUInt64LE(0n, section.header + 0x20);
    }
  }
  return elf;
}

/** One that does not fit is refused; a module without any is taken (kernel: include/linux/module_signature.h). */
function withoutSignature(module: Buffer): Buffer {
  const end = module.length - SIGNATURE_MARK.length;
  if (module.toString('latin1', Math.max(0, end)) !== SIGNATURE_MARK) return module;
  const bytes = module.readUInt32BE(end - 4);
  return module.subarray(0, end - SIGNATURE_HEADER_SIZE - bytes);
}

interface Section {
  readonly name: string;
  readonly type: number;
  /** Place of its header in the file. */
  readonly header: number;
  readonly offset: number;
  readonly size: number;
  readonly info: number;
  readonly link: number;
}

function readSections(elf: Buffer): Section[] {
  const table = Number(elf.readBigUInt64LE(0x28));
  const raw = Array.from({ length: elf.readUInt16LE(0x3c) }, (_, index) => {
    const header = table + index * elf.readUInt16LE(0x3a);
    const long = (at: number) => Number(elf.readBigUInt64LE(header + at));
    const word = (at: number) => elf.readUInt32LE(header + at);
    return {
      header,
      nameAt: word(0),
      type: word(4),
      offset: long(0x18),
      size: long(0x20),
      link: word(0x28),
      info: word(0x2c),
    };
  });
  const names = raw[elf.readUInt16LE(0x3e)]!.offset;
  return raw.map(({ nameAt, ...section }) => ({ ...section, name: textAt(elf, names + nameAt) }));
}

function textAt(elf: Buffer, at: number): string {
  return elf.toString('latin1', at, elf.indexOf(0, at));
}

function findInit(elf: Buffer, sections: readonly Section[]): { section: number; offset: number } {
  const symbols = sections.find(({ type }) => type === 2);
  if (!symbols) throw new Error('the module has no symbols');
  const names = sections[symbols.link]!.offset;
  for (let at = symbols.offset; at < symbols.offset + symbols.size; at += SYMBOL_SIZE) {
    if (textAt(elf, names + elf.readUInt32LE(at)) !== 'init_module') continue;
    return { section: elf.readUInt16LE(at + 6), offset: Number(elf.readBigUInt64LE(at + 8)) };
  }
  throw new Error('the module has no init_module');
}

function keepRelocations(elf: Buffer, section: Section, isKept: (offset: number) => boolean): void {
  let end = section.offset;
  for (let at = section.offset; at < section.offset + section.size; at += RELOCATION_SIZE) {
    if (!isKept(Number(elf.readBigUInt64LE(at)))) continue;
    elf.copyWithin(end, at, at + RELOCATION_SIZE);
    end += RELOCATION_SIZE;
  }
  elf.writeBigUInt64LE(BigInt(end - section.offset), section.header + 0x20);
}

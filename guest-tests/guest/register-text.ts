/** Registers for people. */
import type { VcpuRegisters } from '../../index.ts';

const PER_LINE = 4;

/** A paragraph for each vCPU. */
export function formatRegisters(vcpus: readonly VcpuRegisters[]): string {
  return vcpus
    .map(({ index, general, system }) => {
      const { cr0, cr2, cr3, cr4, efer, cs, ss, fs, gs } = system;
      const special = { cr0, cr2, cr3, cr4, efer, 'fs.base': fs.base, 'gs.base': gs.base };
      const values = Object.entries({ ...general, ...special }).map(
        ([name, value]) => `${name.padStart(7)} ${value.toString(16).padStart(16, '0')}`,
      );
      const lines = Array.from({ length: Math.ceil(values.length / PER_LINE) }, (_, i) =>
        values.slice(PER_LINE * i, PER_LINE * (i + 1)).join('  '),
      );
      const selectors = `cs ${cs.selector.toString(16)} ss ${ss.selector.toString(16)} CPL ${cs.selector & 3}`;
      return `vCPU ${index}: ${selectors}\n${lines.join('\n')}\n`;
    })
    .join('\n');
}

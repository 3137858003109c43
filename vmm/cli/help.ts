/** Help texts. Options are described where they are declared; this only lays them out. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { OptionTable } from './arguments.ts';
import { HOST_HELP } from './host-options.ts';
import { exitCodes } from './reference.ts';
import { RUN_OPTIONS } from './run-options.ts';
import { ESCAPE_HELP } from './terminal.ts';
import { VM_HELP, VM_OPTIONS } from './vm-options.ts';

export const TOPICS = ['run', 'vm', ...Object.keys(HOST_HELP), 'exit-codes'] as readonly string[];

/** Commands that are not this folder's, each with its line for the overview. */
type OuterHelp = Readonly<Record<string, { readonly summary: string }>>;

/** The text of `causeway help [TOPIC]`; undefined for a topic that does not exist. */
export function helpText(topic: string | undefined, outer: OuterHelp = {}): string | undefined {
  switch (topic) {
    case undefined:
      return overview(outer);
    case 'run':
      return `usage: causeway run --kernel FILE [options]
       causeway run --config FILE [options]

Boots a virtual machine with its first serial port on this terminal.

${optionList(RUN_OPTIONS)}

Keys on a terminal: ${ESCAPE_HELP}.
A signal gives the devices back before the command ends; a second one ends it at once.
`;
    case 'vm':
      return `${VM_HELP}\n${optionList(VM_OPTIONS)}\n`;
    case 'exit-codes':
      return `${exitCodes()
        .map(([code, meaning]) => `${String(code).padStart(4)}  ${meaning}`)
        .join('\n')}\n`;
    default:
      return Object.hasOwn(HOST_HELP, topic) ? hostHelp(topic) : undefined;
  }
}

function hostHelp(topic: string): string {
  const { usage, text, options } = HOST_HELP[topic]!;
  return `usage: causeway ${usage}\n\n${text}\n\n${optionList(options)}\n`;
}

function overview(outer: OuterHelp): string {
  return `usage: causeway COMMAND [options]

  run              boot a virtual machine, with PCI devices of this host if wanted
  vm               look at and control virtual machines that run
${Object.entries({ ...HOST_HELP, ...outer })
  .map(([name, { summary }]) => `  ${name.padEnd(17)}${summary}`)
  .join('\n')}
  help [TOPIC]     this text, or one about: ${[...TOPICS, ...Object.keys(outer)].join(', ')}
  version          the version of Causeway and of Node

example: causeway run --kernel vmlinuz --initrd initrd.img --memory 1G --cpus 2 --device 0000:01:00.0
`;
}

function optionList(table: OptionTable): string {
  const rows = Object.entries(table).map(([name, { value, help }]) => [`--${name}${value ? ` ${value}` : ''}`, help]);
  const width = Math.max(...rows.map(([option]) => option!.length));
  return rows.map(([option, help]) => `  ${option!.padEnd(width)}  ${help}`).join('\n');
}

/** The version in package.json, which lies above this file, in the source tree and in `dist/` alike. */
export function versionText(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    try {
      const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<
        string,
        string
      >;
      if (name === 'causeway') return `causeway ${version} (Node ${process.versions.node})`;
    } catch {
      if (folder === dirname(folder)) return `causeway, unknown version (Node ${process.versions.node})`;
    }
  }
}

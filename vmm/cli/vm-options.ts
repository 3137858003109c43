/** `causeway vm`: its verbs, their options and what the help says of them. */
import type { OptionTable } from './arguments.ts';

const json = { type: 'flag', help: 'print JSON' } as const;

export const VM_VERBS = {
  list: { words: '', summary: 'the VMs of this user whose control socket is open' },
  info: { words: 'NAME', summary: 'state, devices, BARs, vectors, resets, exits to user space' },
  pause: { words: 'NAME', summary: 'stop all vCPUs' },
  resume: { words: 'NAME', summary: 'let them go on' },
  'power-button': { words: 'NAME', summary: 'press it: the guest may shut down in order' },
  nmi: { words: 'NAME', summary: 'interrupt every vCPU with an NMI' },
  stop: { words: 'NAME', summary: 'end the run at once' },
  wait: { words: 'NAME', summary: 'until the run has ended; exits as causeway run would' },
  events: { words: 'NAME', summary: 'what happens, until the VM is gone; with --json one object a line' },
  console: { words: 'NAME', summary: "the guest's serial port on this terminal; Ctrl-A x leaves it" },
  attach: { words: 'NAME BDF', summary: 'plug a device into a spare root port' },
  detach: { words: 'NAME BDF', summary: 'have the guest let go of a device, and give it back to the host' },
  'config-permit': { words: 'NAME BDF', summary: "replace a device's grants on config space" },
} as const satisfies Record<string, { readonly words: string; readonly summary: string }>;

export type VmVerb = keyof typeof VM_VERBS;

export const VM_OPTIONS = {
  json,
  since: { type: 'whole', value: 'ID', help: 'events: those after this one, 0 for all that are kept' },
  kind: {
    type: 'list',
    value: 'KIND',
    help: 'events: only state, reboot, warning, device, device-attached, ...; repeatable',
  },
  port: { type: 'text', value: 'PORT', help: 'attach: this root port, not the first spare one' },
  'on-error': { type: 'text', value: 'WHAT', help: 'attach: report, pause, stop or reset (report)' },
  'detach-timeout': { type: 'seconds', value: 'S', help: 'detach: how long the guest may take (15)' },
  log: { type: 'flag', help: 'console: print what the guest has written so far, and do not attach' },
  follow: { type: 'flag', help: 'console --log: go on with what it writes' },
  file: { type: 'text', value: 'FILE', help: 'config-permit: a root-owned file of grants' },
  grant: {
    type: 'list',
    value: 'LINE',
    help: 'config-permit: "<offset> <readbits> <writebits>", hexadecimal; repeatable; only if root runs the VM',
  },
  force: { type: 'flag', help: 'config-permit: also registers that guard the host; detach: take it away then' },
  timeout: { type: 'seconds', value: 'S', help: 'give up after so many seconds' },
} as const satisfies OptionTable;

/** What the help says before the options. */
export const VM_HELP = `usage: causeway vm VERB [NAME] [options]

Controls VMs that run with a control socket (causeway run --control NAME). NAME is that name, or the path of the socket
with a slash in it.

${Object.entries(VM_VERBS)
  .map(([verb, { words, summary }]) => `  ${`${verb} ${words}`.padEnd(24)}${summary}`)
  .join('\n')}
`;

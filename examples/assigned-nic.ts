/**
 * Boots a Linux guest with a network card of the host, shows its console, and counts what the guest's traffic costs.
 *
 *   node dist/examples/assigned-nic.js KERNEL INITRD BDF
 *
 * The guest's script prints the two marks below around its traffic.
 */
import { createVm, describeExits, type ExitCounters, formatSummary, isCausewayError } from '../index.ts';

const [kernel = '', initrd = '', bdf = ''] = process.argv.slice(2);

async function main(): Promise<number> {
  await using vm = await createVm({
    name: 'assigned-nic',
    kernel,
    initrd,
    // `pci=noearly`: on the oldest AMD CPUs, which emulators imitate, Linux otherwise probes every bus for a GART.
    cmdline: 'console=ttyS0 quiet panic=-1 pci=noearly',
    memory: '512M',
    cpus: 2,
    devices: [bdf],
    rebootLimit: 0,
  });
  process.once('SIGINT', () => void vm.close());
  vm.serial.onData((bytes) => process.stdout.write(bytes));

  await vm.start();
  await vm.serial.waitFor('traffic begins');
  // The mark itself is console output; the guest now sleeps for a second.
  await new Promise((resolve) => setTimeout(resolve, 300));
  const before = vm.exits();
  await vm.serial.waitFor('traffic ended');
  const after = vm.exits();
  const summary = formatSummary(vm.report());
  const exit = await vm.exited;

  console.log(`\n${summary}\n`);
  console.log(`before the traffic  ${describeExits(before)}`);
  console.log(`after it            ${describeExits(after)}`);
  console.log(
    `exits that the traffic caused, without the console's: ${withoutConsole(after) - withoutConsole(before)}`,
  );
  return exit.reason === 'shutdown' ? 0 : 1;
}

function withoutConsole(exits: ExitCounters): number {
  return exits.total - exits.console;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!isCausewayError(error)) throw error;
  console.error(`${error.message}\n${error.hint ?? ''}`);
  process.exitCode = error.exitCode;
}

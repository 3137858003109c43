/** What a failing start must leave alone: drivers, overrides, nodes, limits of the lab's host. */
import type { Lab } from '../../lab/index.ts';

/** Few processes: each costs a quarter of a second under emulation. */
const LIST_STATE = `
cd /sys/bus/pci/devices
ls -l --time-style=+ */driver
grep . */driver_override */power_state */enable
ls -ln --time-style=+ /dev/vfio /dev/kvm 2>&1
`;

/** A text that differs when anything of the host's PCI and VFIO state does. */
export async function hostState(lab: Lab): Promise<string> {
  const { stdout } = await lab.exec(LIST_STATE, { timeoutMs: 30_000 });
  return stdout;
}

/** Lets every user of the lab read a file: where the tests run, it may lie in a closed home. */
export async function letEveryoneRead(lab: Lab, paths: readonly string[]): Promise<void> {
  const script = `
for path in "$@"; do
  chmod a+rX "$path"
  while [ "$path" != / ]; do path=$(dirname "$path"); chmod a+rx "$path"; done
done`;
  const { code, stderr } = await lab.exec(['sh', '-c', script, 'sh', ...paths]);
  if (code !== 0) throw new Error(`chmod in the lab: ${stderr}`);
}

/** What a failing start must leave alone: drivers, overrides, nodes, limits of the lab's host. */
import type { Lab } from '../../lab/index.ts';

const LIST_STATE = `
for d in /sys/bus/pci/devices/*; do
  echo "\${d##*/} driver=$(basename "$(readlink $d/driver)") override=$(cat $d/driver_override) power=$(cat $d/power_state) enabled=$(cat $d/enable)"
done
ls -ln /dev/vfio /dev/kvm 2>&1 | sed 's/ [A-Z][a-z][a-z] .* \\//  \\//'
ls -d /proc/[0-9]*/task/*/ | wc -l > /dev/null
cat /sys/kernel/iommu_groups/*/type
ls /tmp
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

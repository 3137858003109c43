/** A parent that opens files as root, becomes nobody and starts Causeway, which then may open none of them itself. */
import type { VmReport } from '../../index.ts';
import type { Lab } from '../../lab/index.ts';
import { CLI } from './programs.ts';

/** The first fd that the parent opens: a shell has the lower ones for itself. */
const FIRST_FD = 5;
/** Guest RAM of 32 MiB, and little more. */
const MEMLOCK_BYTES = 40 * 2 ** 20;

export interface HandedInRun {
  readonly code: number;
  readonly stderr: string;
  /** What `--json` printed; undefined when it printed nothing of the kind. */
  readonly report: VmReport | undefined;
}

/**
 * Runs a payload under `causeway run` as nobody.
 * @param files opened as root, from fd 5 on; nobody may open any of them
 */
export async function handedIn(
  lab: Lab,
  files: readonly string[],
  kernel: string,
  options: readonly string[],
): Promise<HandedInRun> {
  const opened = files.map((path, index) => `exec ${FIRST_FD + index}<>${path}`).join('\n');
  const nobody = 'setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all';
  const script = `
chmod 600 ${files.join(' ')}
for path in ${files.join(' ')}; do
  ${nobody} sh -c 'exec 3<>"$1"' sh $path 2> /dev/null && { echo "nobody may open $path" >&2; exit 99; }
done
${opened}
exec prlimit --memlock=${MEMLOCK_BYTES} ${nobody} -- "$@"`;
  const args = [
    '--kernel',
    kernel,
    '--memory',
    '32M',
    '--cmdline',
    'device=1',
    '--timeout',
    '60',
    '--json',
    ...options,
  ];
  const { code, stdout, stderr } = await lab.exec(['sh', '-c', script, 'sh', process.execPath, CLI, 'run', ...args], {
    timeoutMs: 120_000,
  });
  return { code, stderr, report: reportOf(stdout) };
}

/** What `causeway run --json` printed; undefined when it printed nothing of the kind. */
export function reportOf(stdout: string): VmReport | undefined {
  try {
    return (JSON.parse(stdout) as { readonly report?: VmReport }).report;
  } catch {
    return undefined;
  }
}

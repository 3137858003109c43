/** From the files that a configuration names to numbers of this process, and to the devices that they are. */
import type { Fd } from '../../native/types.ts';
import { IssueList } from '../config/issues.ts';
import type { FdRef, HostFds, NormalVmConfig } from '../config/model.ts';

/** sd_listen_fds(3): the first file that a service manager hands over. */
const LISTEN_FDS_START = 3;

/** A configuration whose files are all numbers. */
export interface OpenedConfig extends NormalVmConfig {
  readonly devices: readonly (NormalVmConfig['devices'][number] & {
    readonly deviceFd?: number;
    readonly groupFd?: number;
  })[];
  readonly fds: { readonly [Key in keyof HostFds]?: Fd };
}

/**
 * Looks names up in LISTEN_FDNAMES.
 * @throws CausewayError CONFIG_INVALID for names that are not there, and for a file that is given twice
 */
export function resolveFds(config: NormalVmConfig, env: NodeJS.ProcessEnv, pid: number): OpenedConfig {
  const issues = new IssueList();
  const names = listenNames(env, pid);
  const used = new Map<number, string>();
  const number = (ref: FdRef, path: string): number | undefined => {
    const index = typeof ref === 'number' ? -1 : names.indexOf(ref);
    if (typeof ref === 'string' && index < 0) {
      const told = names.length > 0 ? `it has ${names.join(', ')}` : 'it names none for this process';
      return issues.add(path, `no inherited file is called "${ref}"`, `see LISTEN_FDNAMES and LISTEN_PID: ${told}`);
    }
    const fd = typeof ref === 'number' ? ref : LISTEN_FDS_START + index;
    const first = used.get(fd);
    if (first !== undefined) return issues.add(path, `file ${fd} is given already, as ${first}`);
    used.set(fd, path);
    return fd;
  };
  const fds = Object.entries(config.fds).map(([key, ref]) => [key, number(ref, `fds.${key}`)]);
  // Devices of one group may name the same file of it.
  const groups = new Map<FdRef, number | undefined>();
  const devices = config.devices.map(({ deviceFd, groupFd, ...device }, index) => {
    const path = `devices[${index}]`;
    if (groupFd !== undefined && !groups.has(groupFd)) groups.set(groupFd, number(groupFd, `${path}.groupFd`));
    const own = deviceFd === undefined ? undefined : number(deviceFd, `${path}.deviceFd`);
    const group = groupFd === undefined ? undefined : groups.get(groupFd);
    return {
      ...device,
      ...(own === undefined ? {} : { deviceFd: own }),
      ...(group === undefined ? {} : { groupFd: group }),
    };
  });
  issues.throwIfAny();
  return { ...config, devices, fds: Object.fromEntries(fds) as OpenedConfig['fds'] };
}

/** Meant for another process unless LISTEN_PID says so: the environment is inherited further than the files. */
function listenNames(env: NodeJS.ProcessEnv, pid: number): string[] {
  const count = Number(env.LISTEN_FDS);
  if (Number(env.LISTEN_PID) !== pid || !Number.isInteger(count) || count < 1) return [];
  return (env.LISTEN_FDNAMES ?? '').split(':').slice(0, count);
}

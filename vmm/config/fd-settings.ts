/** Inherited files in a configuration, and what devices are opened through. */
import { checkKeys, describe, type Fields, isObject } from './fields.ts';
import type { IssueList } from './issues.ts';
import type { FdRef, HostFds, IommuMode } from './model.ts';

export const IOMMU_MODES: readonly IommuMode[] = ['auto', 'container', 'iommufd'];

/** `satisfies` keeps the list complete: a field added to the model must be added here. */
const FD_KEYS = Object.keys({ kvm: 0, container: 0, iommufd: 0 } satisfies Record<
  keyof HostFds,
  0
>) as (keyof HostFds)[];

/** Standard input, output and error cannot be devices. */
const FIRST_FD = 3;

/** Reports what is given and is neither a number nor a name. */
export function isFdRef(value: unknown, path: string, issues: IssueList): value is FdRef {
  if (value === undefined) return false;
  if (typeof value === 'number' && Number.isInteger(value) && value >= FIRST_FD && value < 2 ** 31) return true;
  // As sd_listen_fds(3) allows them; a text of digits is a number that lost its type.
  if (typeof value === 'string' && /^[\x21-\x39\x3b-\x7e]{1,255}$/.test(value) && !/^\d+$/.test(value)) return true;
  issues.add(
    path,
    `must be the number of an open file, ${FIRST_FD} or more, or its name in LISTEN_FDNAMES, not ${describe(value)}`,
  );
  return false;
}

/** A file as the command line or a message gives it: digits are a number, the rest is a name. */
export function parseFdRef(text: string): FdRef {
  return /^\d+$/.test(text) ? Number(text) : text;
}

export function readHostFds(fields: Fields, issues: IssueList): HostFds {
  const { fds } = fields;
  if (fds === undefined) return {};
  if (!isObject(fds)) {
    issues.add('fds', `must be an object, not ${describe(fds)}`);
    return {};
  }
  checkKeys(fds, FD_KEYS, 'fds', issues);
  const given: Partial<Record<keyof HostFds, FdRef>> = {};
  for (const key of FD_KEYS) {
    const value = fds[key];
    if (isFdRef(value, `fds.${key}`, issues)) given[key] = value;
  }
  return given;
}

export function readIommuMode(value: unknown, issues: IssueList): IommuMode {
  const mode = IOMMU_MODES.find((each) => each === value);
  if (mode === undefined && value !== undefined) {
    issues.add('iommu', `must be "auto", "container" or "iommufd", not ${describe(value)}`);
  }
  return mode ?? 'auto';
}

/** Files of one kind with a mode of the other, and a device out of a group without the group. */
export function checkFdUse(
  mode: IommuMode,
  fds: HostFds,
  devices: readonly { readonly deviceFd?: FdRef; readonly groupFd?: FdRef }[],
  issues: IssueList,
): void {
  const ownFile = devices.findIndex(({ deviceFd, groupFd }) => deviceFd !== undefined && groupFd === undefined);
  const withGroup = devices.findIndex(({ groupFd }) => groupFd !== undefined);
  const needsIommufd =
    fds.iommufd !== undefined ? 'fds.iommufd' : ownFile >= 0 ? `devices[${ownFile}].deviceFd` : undefined;
  const needsContainer =
    fds.container !== undefined ? 'fds.container' : withGroup >= 0 ? `devices[${withGroup}].groupFd` : undefined;
  if (needsIommufd !== undefined && mode === 'container')
    issues.add(needsIommufd, 'is for iommufd, and iommu is "container"');
  if (needsContainer !== undefined && mode === 'iommufd')
    issues.add(needsContainer, 'is for the container, and iommu is "iommufd"');
  if (needsIommufd !== undefined && needsContainer !== undefined && mode === 'auto') {
    issues.add(needsContainer, `is for the container, and ${needsIommufd} for iommufd: a VM uses one of them`);
  }
}

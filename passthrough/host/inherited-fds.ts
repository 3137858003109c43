/** Files that another process opened and handed in: taken over, and asked which device they are. */
import type { Fd, FileDescriptors, HostBdf, HostFiles } from '../../native/types.ts';
import { CausewayError } from '../../vmm/base/errors.ts';
import { parseBdf } from './bdf.ts';
import { linkName, readText } from './sysfs.ts';

/** The same open file, close-on-exec, under a number of our own; the old number is closed. */
export function adoptFd(native: FileDescriptors, fd: Fd): Fd {
  const own = native.dup(fd);
  native.close(fd);
  return own;
}

/** What /proc says that an fd is: a path, or `anon_inode:[vfio-device]`. @throws CausewayError CONFIG_INVALID */
export function fdTarget(files: HostFiles, fd: number): string {
  try {
    return files.readLink(`/proc/self/fd/${fd}`);
  } catch (cause) {
    throw new CausewayError('CONFIG_INVALID', `there is no open file ${fd} in this process`, {
      cause,
      hint: 'the parent must leave it open across exec (no FD_CLOEXEC), under that number',
    });
  }
}

/**
 * The function behind a device's fd, from the file's name or, since Linux 6.17, from what /proc tells of it. Undefined
 * when neither does: an fd out of a group has no name.
 */
export function deviceOfFd(files: HostFiles, fd: number): HostBdf | undefined {
  const name = /(?:^|\/)(vfio\d+)$/.exec(fdTarget(files, fd))?.[1];
  if (name !== undefined) return linkName(files, `/sys/class/vfio-dev/${name}/device`) as HostBdf | undefined;
  const path = /^vfio-device-syspath:\s*(\S+)/m.exec(readText(files, `/proc/self/fdinfo/${fd}`) ?? '')?.[1];
  return parseBdf(path?.split('/').at(-1) ?? '');
}

/** The number of the group behind a group's fd; undefined when its name does not tell. */
export function groupOfFd(files: HostFiles, fd: number): number | undefined {
  const number = /\/vfio\/(\d+)$/.exec(fdTarget(files, fd))?.[1];
  return number === undefined ? undefined : Number(number);
}

/**
 * Fills in the address of devices that were given by their file only.
 * @throws CausewayError CONFIG_INVALID for a file that does not tell its device, or is another one's
 */
export function identifyDevices<T extends { readonly bdf: string; readonly deviceFd?: number }>(
  files: HostFiles,
  devices: readonly T[],
): T[] {
  return devices.map((device, index) => {
    if (device.deviceFd === undefined) return device;
    const found = deviceOfFd(files, device.deviceFd);
    const path = `devices[${index}].deviceFd`;
    if (found === undefined && device.bdf === '') {
      throw new CausewayError('CONFIG_INVALID', `${path}: file ${device.deviceFd} does not tell which device it is`, {
        hint: 'give bdf as well',
      });
    }
    if (found !== undefined && device.bdf !== '' && found !== device.bdf) {
      throw new CausewayError('CONFIG_INVALID', `${path}: file ${device.deviceFd} is ${found}, not ${device.bdf}`, {
        bdf: found,
      });
    }
    return { ...device, bdf: found ?? device.bdf };
  });
}

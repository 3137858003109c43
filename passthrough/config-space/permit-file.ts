/**
 * The file of grants: root's policy on which guests' drivers may touch which strange registers. Lines of grants stand
 * below the device that they are for:
 *
 *     [1033:00e0]              # vendor:device, or vendor:device:subsystem vendor:subsystem, or a host address
 *     40 00000001 00000001     # OHCI-1394: the byte swap bit
 */
import type { HostBdf, HostFiles } from '../../native/types.ts';
import type { ConfigIssue } from '../../vmm/base/errors.ts';
import { CausewayError } from '../../vmm/base/errors.ts';
import { parseBdf } from '../host/bdf.ts';
import { type ConfigGrant, parseGrant, throwIssues } from './grants.ts';

/** Who a device is, for scopes. */
export interface DeviceIdentity {
  readonly bdf: HostBdf;
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystemDevice: number;
}

type GrantScope =
  | { readonly kind: 'address'; readonly bdf: HostBdf }
  /** Two or four numbers. */
  | { readonly kind: 'ids'; readonly ids: readonly number[] };

interface PermitSection {
  readonly scope: GrantScope;
  readonly grants: readonly ConfigGrant[];
}

/** A whole file, all of it well-formed. */
export interface PermitFile {
  readonly path: string;
  readonly sections: readonly PermitSection[];
}

const GROUP_OR_WORLD_WRITABLE = 0o022;

/**
 * Reads a file that only root can have written.
 * @throws CausewayError CONFIG_INVALID when it cannot be read, has another owner, may be written by others, or is
 * malformed anywhere
 */
export function readPermitFile(files: HostFiles, path: string): PermitFile {
  let file: ReturnType<HostFiles['readOwnedFile']>;
  try {
    file = files.readOwnedFile(path);
  } catch (error) {
    throw new CausewayError('CONFIG_INVALID', `the grants in ${path} cannot be read`, { cause: error, path });
  }
  if (file.uid !== 0) {
    throw new CausewayError('CONFIG_INVALID', `${path} belongs to user ${file.uid}: grants are root's to give`, {
      path,
      hint: `sudo chown root ${path}`,
    });
  }
  if ((file.mode & GROUP_OR_WORLD_WRITABLE) !== 0) {
    const mode = (file.mode & 0o777).toString(8).padStart(4, '0');
    throw new CausewayError('CONFIG_INVALID', `${path} may be written by others than root (mode ${mode})`, {
      path,
      hint: `sudo chmod go-w ${path}`,
    });
  }
  return parsePermitFile(new TextDecoder().decode(file.bytes), path);
}

/** @throws CausewayError CONFIG_INVALID with every faulty line; nothing of the file is taken then */
export function parsePermitFile(text: string, path: string): PermitFile {
  const issues: ConfigIssue[] = [];
  const sections: { readonly scope: GrantScope; readonly grants: ConfigGrant[] }[] = [];
  let isScoped = false;
  for (const [i, whole] of text.split('\n').entries()) {
    const line = whole.replace(/#.*/, '').trim();
    if (line === '') continue;
    const fault = (message: string): void => void issues.push({ path: `${path}:${i + 1}`, message });
    const scopeText = /^\[(.*)\]$/.exec(line)?.[1];
    if (scopeText !== undefined) {
      const scope = parseScope(scopeText);
      // Lines below a scope that was misspelt are not told again as homeless.
      isScoped = true;
      if (scope) sections.push({ scope, grants: [] });
      else fault(`"${scopeText}" is neither a PCI address nor vendor:device[:subvendor:subdevice]`);
      continue;
    }
    const grant = parseGrant(line);
    if (typeof grant === 'string') fault(grant);
    else if (!isScoped) fault('a grant needs a device above it: [0000:01:00.0] or [8086:10d3]');
    else sections.at(-1)?.grants.push(grant);
  }
  throwIssues(issues);
  return { path, sections };
}

/** The grants that a file has for one device, in the order of the file. */
export function grantsFor({ sections }: PermitFile, identity: DeviceIdentity): ConfigGrant[] {
  const { bdf, vendor, device, subsystemVendor, subsystemDevice } = identity;
  const own = [vendor, device, subsystemVendor, subsystemDevice];
  return sections
    .filter(({ scope }) => (scope.kind === 'address' ? scope.bdf === bdf : scope.ids.every((id, i) => id === own[i])))
    .flatMap(({ grants }) => grants);
}

function parseScope(text: string): GrantScope | undefined {
  const bdf = parseBdf(text);
  if (bdf) return { kind: 'address', bdf };
  const parts = text.trim().split(':');
  const isIds = (parts.length === 2 || parts.length === 4) && parts.every((part) => /^[0-9a-f]{4}$/i.test(part));
  return isIds ? { kind: 'ids', ids: parts.map((part) => Number.parseInt(part, 16)) } : undefined;
}

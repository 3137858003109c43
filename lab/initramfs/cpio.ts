/** One entry of a cpio archive. Directories and symbolic links have no mode of their own here. */
export type CpioEntry =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string; readonly data: Uint8Array; readonly mode: number }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string }
  | { readonly kind: 'chardev'; readonly path: string; readonly major: number; readonly minor: number };

const typeBits = { directory: 0o040755, file: 0o100000, symlink: 0o120777, chardev: 0o020600 } as const;

/**
 * Write a cpio archive in the "newc" form that Linux unpacks as its first root file system. Parents of a path are
 * added when missing; everything belongs to root and has time zero, so equal input gives equal bytes.
 */
export function writeCpio(entries: Iterable<CpioEntry>): Buffer {
  const parts: Uint8Array[] = [];
  const seen = new Set<string>();
  let inode = 1;
  const add = (entry: CpioEntry) => {
    const path = entry.path.replace(/^\/+|\/+$/g, '');
    if (path === '') return;
    const parent = path.slice(0, Math.max(path.lastIndexOf('/'), 0));
    if (parent !== '' && !seen.has(parent)) add({ kind: 'directory', path: parent });
    if (entry.kind === 'directory' && seen.has(path)) return;
    seen.add(path);
    parts.push(...record(entry, path, inode));
    inode += 1;
  };
  for (const entry of entries) add(entry);
  parts.push(...record(undefined, 'TRAILER!!!', 0));
  return Buffer.concat(parts);
}

function record(entry: CpioEntry | undefined, path: string, inode: number): Uint8Array[] {
  const data = bodyOf(entry);
  const mode = entry === undefined ? 0 : typeBits[entry.kind] | (entry.kind === 'file' ? entry.mode & 0o7777 : 0);
  const device = entry?.kind === 'chardev' ? [entry.major, entry.minor] : [0, 0];
  const name = Buffer.from(`${path}\0`);
  // ino, mode, uid, gid, nlink, mtime, size, devmajor, devminor, rdevmajor, rdevminor, name length, check
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, ...device, name.length, 0];
  const header = `070701${fields.map((value) => (value ?? 0).toString(16).padStart(8, '0')).join('')}`;
  return [Buffer.from(header), name, padding(header.length + name.length), data, padding(data.length)];
}

function bodyOf(entry: CpioEntry | undefined): Uint8Array {
  if (entry?.kind === 'file') return entry.data;
  if (entry?.kind === 'symlink') return Buffer.from(entry.target);
  return new Uint8Array(0);
}

function padding(length: number): Uint8Array {
  return new Uint8Array((4 - (length % 4)) % 4);
}

/** The host's files as a test scripts them: a tree with symbolic links, hooks on writes, refused paths. */

import { ERRNO, kernelError } from '../kernel-error.ts';
import type { HostFiles, OwnedFile } from '../types.ts';
import { FakeHostFile, type OpenFile } from './open-file.ts';

type Content = string | Uint8Array | (() => string | Uint8Array);

type Node =
  | { readonly type: 'dir'; readonly children: Map<string, Node> }
  | { readonly type: 'link'; readonly target: string }
  | {
      readonly type: 'file';
      read: (() => string | Uint8Array) | undefined;
      readonly write: ((text: string) => void) | undefined;
      readonly open: ((mode: 'r' | 'rw') => OpenFile) | undefined;
    };

type Directory = Extract<Node, { type: 'dir' }>;

/** Linux follows this many links before it says ELOOP. */
const MAX_LINKS = 40;

function split(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

export class FakeFiles implements HostFiles {
  private readonly root: Directory = { type: 'dir', children: new Map() };
  private readonly owners = new Map<string, { readonly uid: number; readonly mode: number }>();
  private readonly denied = new Map<string, 'rw' | 'w'>();

  // ---- the script ---------------------------------------------------------------------------------------------

  addDir(path: string): void {
    this.makeDir(split(path));
  }

  /**
   * Adds or replaces a file. Without `onWrite` a write replaces the content; a KernelError thrown by `onWrite` is what
   * the writer gets.
   */
  addFile(path: string, content: Content, onWrite?: (text: string) => void): void {
    const file: Extract<Node, { type: 'file' }> = {
      type: 'file',
      read: typeof content === 'function' ? content : () => content,
      write:
        onWrite ??
        ((text) => {
          file.read = () => text;
        }),
      open: undefined,
    };
    this.put(path, file);
  }

  /** Adds a file that can only be written, like `bind`. Reading is EACCES. */
  addCommand(path: string, onWrite: (text: string) => void): void {
    this.put(path, { type: 'file', read: undefined, write: onWrite, open: undefined });
  }

  /** Adds a device node; `open` may throw a KernelError. */
  addDevice(path: string, open: (mode: 'r' | 'rw') => OpenFile): void {
    this.put(path, { type: 'file', read: undefined, write: undefined, open });
  }

  addLink(path: string, target: string): void {
    this.put(path, { type: 'link', target });
  }

  /** Removes a file, link or whole directory. Absent ones are ignored. */
  remove(path: string): void {
    const parts = split(path);
    const name = parts.pop() ?? '';
    const parent = this.walk(parts, true);
    if (parent?.type === 'dir') parent.children.delete(name);
  }

  /** Makes a path refuse this process: `w` writes only, `rw` everything. EACCES. */
  deny(path: string, what: 'rw' | 'w'): void {
    this.denied.set(path, what);
  }

  /** Gives a file an owner and permission bits; by default it is root's with mode 0644. They do not refuse anything. */
  setOwner(path: string, uid: number, mode: number): void {
    this.owners.set(path, { uid, mode });
  }

  allow(path: string): void {
    this.denied.delete(path);
  }

  // ---- HostFiles ----------------------------------------------------------------------------------------------

  readFile(path: string): Uint8Array {
    const node = this.find(path, 'open');
    if (node.type === 'dir') throw kernelError('read', 'EISDIR', path);
    if (this.denied.get(path) === 'rw' || node.type !== 'file' || node.read === undefined) {
      throw kernelError('open', 'EACCES', path);
    }
    const content = node.read();
    return typeof content === 'string' ? new TextEncoder().encode(content) : content.slice();
  }

  readOwnedFile(path: string): OwnedFile {
    return { bytes: this.readFile(path), ...(this.owners.get(path) ?? { uid: 0, mode: 0o644 }) };
  }

  writeFile(path: string, text: string): void {
    const node = this.find(path, 'open');
    if (node.type === 'dir') throw kernelError('open', 'EISDIR', path);
    if (this.denied.has(path) || node.type !== 'file' || node.write === undefined) {
      throw kernelError('open', 'EACCES', path);
    }
    try {
      node.write(text);
    } catch (error) {
      // The hook knows the errno, this knows the path.
      if (error instanceof Error && 'errno' in error && typeof error.errno === 'number' && !('path' in error)) {
        throw kernelError('write', error.errno, path);
      }
      throw error;
    }
  }

  readDir(path: string): string[] {
    const node = this.find(path, 'scandir');
    if (node.type !== 'dir') throw kernelError('scandir', 'ENOTDIR', path);
    return [...node.children.keys()].sort();
  }

  readLink(path: string): string {
    const node = this.walk(split(path), false);
    if (node === undefined) throw kernelError('readlink', 'ENOENT', path);
    if (node.type !== 'link') throw kernelError('readlink', 'EINVAL', path);
    return node.target;
  }

  exists(path: string): boolean {
    return this.walk(split(path), true) !== undefined;
  }

  access(path: string, mode: 'r' | 'rw'): number {
    if (!this.exists(path)) return -ERRNO.ENOENT!;
    const denied = this.denied.get(path);
    return denied === 'rw' || (denied === 'w' && mode === 'rw') ? -ERRNO.EACCES! : 0;
  }

  /** open(2) for the fd table. */
  openFile(path: string, mode: 'r' | 'rw'): OpenFile {
    const node = this.find(path, 'open');
    if (this.access(path, mode) !== 0) throw kernelError('open', 'EACCES', path);
    if (node.type !== 'file') throw kernelError('open', 'EISDIR', path);
    if (node.open === undefined) return new FakeHostFile(path, () => this.readFile(path));
    try {
      return node.open(mode);
    } catch (error) {
      if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') {
        throw kernelError('open', error.errno, path);
      }
      throw error;
    }
  }

  // ---- the tree -----------------------------------------------------------------------------------------------

  private find(path: string, syscall: string): Node {
    const node = this.walk(split(path), true);
    if (node === undefined) throw kernelError(syscall, 'ENOENT', path);
    return node;
  }

  private walk(parts: readonly string[], followLast: boolean): Node | undefined {
    const trail: Directory[] = [this.root];
    const queue = [...parts];
    let links = 0;
    let last: Node = this.root;
    for (let part = queue.shift(); part !== undefined; part = queue.shift()) {
      if (last.type !== 'dir') return undefined;
      if (part === '..') {
        if (trail.length > 1) trail.pop();
        last = trail.at(-1)!;
        continue;
      }
      const next: Node | undefined = last.children.get(part);
      if (next === undefined) return undefined;
      if (next.type === 'link' && (queue.length > 0 || followLast)) {
        if (++links > MAX_LINKS) throw kernelError('open', 'ELOOP', parts.join('/'));
        if (next.target.startsWith('/')) trail.length = 1;
        last = trail.at(-1)!;
        queue.unshift(...split(next.target));
        continue;
      }
      if (next.type === 'dir') trail.push(next);
      last = next;
    }
    return last;
  }

  private makeDir(parts: readonly string[]): Directory {
    let directory = this.root;
    for (let depth = 0; depth < parts.length; depth++) {
      const walked = this.walk(parts.slice(0, depth + 1), true);
      if (walked?.type === 'dir') {
        directory = walked;
        continue;
      }
      const made: Directory = { type: 'dir', children: new Map() };
      directory.children.set(parts[depth]!, made);
      directory = made;
    }
    return directory;
  }

  private put(path: string, node: Node): void {
    const parts = split(path);
    const name = parts.pop();
    if (name === undefined) throw new Error(`fake files: ${path} names nothing`);
    this.makeDir(parts).children.set(name, node);
  }
}

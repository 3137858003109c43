/** Where control sockets lie, how one comes to be without a moment in which others could open it, and how it goes. */
import { lstatSync, readdirSync } from 'node:fs';
import { chmod, link, lstat, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { connect, type Server, type Socket } from 'node:net';
import { basename, dirname, join, resolve } from 'node:path';
import { CausewayError } from '../base/errors.ts';

const SUFFIX = '.sock';
/** sizeof(sockaddr_un.sun_path) without the final zero; a longer path would be cut off silently by some. */
const MAX_PATH_BYTES = 107;
const CONNECT_TIMEOUT_MS = 2000;

type Environment = Readonly<Record<string, string | undefined>>;

/** The folder of all VMs of this user: `$XDG_RUNTIME_DIR/causeway`, else `/run/causeway`. */
export function controlFolder(environment: Environment = process.env): string {
  const runtime = environment.XDG_RUNTIME_DIR;
  return runtime ? join(runtime, 'causeway') : '/run/causeway';
}

/**
 * The socket of a VM: a name in the folder of this user, or a path, which has a slash in it.
 * @throws CausewayError CONTROL_UNAVAILABLE for a name that cannot be a file's
 */
export function controlPath(nameOrPath: string, environment: Environment = process.env): string {
  if (nameOrPath.includes('/')) return resolve(nameOrPath);
  if (!/^[\w.+-]*[\w+-][\w.+-]*$/.test(nameOrPath)) {
    throw unavailable(`"${nameOrPath}" cannot be the name of a control socket`, nameOrPath, {
      hint: 'use letters, digits, ".", "-" and "_", or give the path of the socket',
    });
  }
  return join(controlFolder(environment), `${nameOrPath}${SUFFIX}`);
}

/** Names of the sockets in this user's folder, whether somebody answers there or not. */
export function controlNames(environment: Environment = process.env): string[] {
  const folder = controlFolder(environment);
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith(SUFFIX) && lstatSync(join(folder, name), { throwIfNoEntry: false })?.isSocket())
      .map((name) => name.slice(0, -SUFFIX.length))
      .sort();
  } catch {
    return [];
  }
}

/**
 * Makes `server` listen at `path`, for this user only (0600). A socket that a dead process left there is replaced.
 * @returns what removes the file, if it is still the same
 * @throws CausewayError CONTROL_UNAVAILABLE: in use, not a socket, no such folder, too long
 */
export async function listenAt(server: Server, path: string): Promise<() => Promise<void>> {
  checkLength(path);
  // A folder that nobody else enters: between bind and chmod the socket has the mode of the umask.
  let nursery: string | undefined;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    nursery = await mkdtemp(`${dirname(path)}/.`);
    const born = join(nursery, 's');
    checkLength(born);
    await listening(server, born);
    await chmod(born, 0o600);
    await publish(born, path);
    const { ino, dev } = await lstat(path);
    return async () => {
      const now = await lstat(path).catch(() => undefined);
      if (now?.ino === ino && now.dev === dev) await rm(path, { force: true });
    };
  } catch (error) {
    server.close();
    if (error instanceof CausewayError) throw error;
    throw unavailable(`the control socket cannot be made: ${messageOf(error)}`, path, {
      cause: error,
      hint: `check the permissions of ${dirname(path)}, or give another path`,
    });
  } finally {
    if (nursery !== undefined) await rm(nursery, { recursive: true, force: true });
  }
}

/** Gives the socket its name. A link fails where a rename would silently take the place of a living socket. */
async function publish(born: string, path: string): Promise<void> {
  try {
    await link(born, path);
    return;
  } catch (error) {
    if (!hasNodeErrno(error, 'EEXIST')) throw error;
  }
  const there = await lstat(path).catch(() => undefined);
  if (there && !there.isSocket()) throw unavailable('there is a file that is no socket', path);
  if (await answers(path)) {
    throw unavailable('another VM listens there', path, { hint: 'give this VM another name, or another path' });
  }
  await rename(born, path);
}

/**
 * Connects to a control socket.
 * @throws CausewayError CONTROL_UNAVAILABLE
 */
export async function connectTo(path: string): Promise<Socket> {
  checkLength(path);
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    const fail = (cause: Error): void => {
      socket.destroy();
      const hint = hasNodeErrno(cause, 'ENOENT', 'ECONNREFUSED')
        ? 'causeway vm list shows the VMs that run; causeway run --control opens the socket'
        : undefined;
      const message = `no VM answers at ${path}: ${cause.message}`;
      reject(unavailable(message, path, { cause, ...(hint === undefined ? {} : { hint }) }));
    };
    socket.once('error', fail);
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => fail(new Error('it does not answer')));
    socket.once('connect', () => {
      socket.off('error', fail);
      socket.setTimeout(0);
      resolve(socket);
    });
  });
}

/** Whether a process listens at `path`. */
export async function answers(path: string): Promise<boolean> {
  try {
    (await connectTo(path)).destroy();
    return true;
  } catch {
    return false;
  }
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function checkLength(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_PATH_BYTES) return;
  throw unavailable(`a socket's path may have ${MAX_PATH_BYTES} bytes; ${basename(path)} would need ${bytes}`, path, {
    hint: 'give a shorter path',
  });
}

function unavailable(
  message: string,
  path: string,
  details: { readonly hint?: string; readonly cause?: unknown } = {},
): CausewayError {
  const where = message.includes(path) ? message : `${path}: ${message}`;
  return new CausewayError('CONTROL_UNAVAILABLE', where, { path, ...details });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** True for an error of Node's own file and network calls with one of these codes. */
function hasNodeErrno(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

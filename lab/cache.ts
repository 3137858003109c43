import { existsSync, readFileSync } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A receiver of one progress line, without newline. */
export type Log = (line: string) => void;

/** The per-user cache directory: `$CAUSEWAY_CACHE`, or `~/.cache/causeway` (`$XDG_CACHE_HOME` is honoured). */
export function cacheRoot(env: NodeJS.ProcessEnv = process.env): string {
  if (env.CAUSEWAY_CACHE) return resolve(env.CAUSEWAY_CACHE);
  return join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'causeway');
}

/**
 * Make `target` exist exactly once: `fill` writes into a fresh directory beside it, which is then renamed into place.
 * A second process that asks for the same target waits. A target that exists is left alone unless `refresh` is set.
 */
export async function materialise(
  target: string,
  fill: (directory: string) => Promise<void>,
  options: { refresh?: boolean; log?: Log } = {},
): Promise<string> {
  if (!options.refresh && existsSync(target)) return target;
  await mkdir(dirname(target), { recursive: true });
  await withLock(
    `${target}.lock`,
    async () => {
      if (!options.refresh && existsSync(target)) return;
      const fresh = `${target}.new`;
      const old = `${target}.old`;
      await rm(fresh, { recursive: true, force: true });
      await mkdir(fresh);
      try {
        await fill(fresh);
        await rm(old, { recursive: true, force: true });
        if (existsSync(target)) await rename(target, old);
        await rename(fresh, target);
        await rm(old, { recursive: true, force: true });
      } catch (error) {
        await rm(fresh, { recursive: true, force: true });
        throw error;
      }
    },
    options.log,
  );
  return target;
}

/** Run `body` while holding the lock file `path`. A lock whose owner no longer lives is taken over. */
export async function withLock<T>(path: string, body: () => Promise<T>, log?: Log): Promise<T> {
  await mkdir(dirname(path), { recursive: true });
  let told = false;
  for (;;) {
    try {
      const file = await open(path, 'wx');
      await file.writeFile(`${process.pid} ${startTime(process.pid)}\n`);
      await file.close();
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    if (await isAbandoned(path)) {
      await rm(path, { force: true });
      continue;
    }
    if (!told) log?.(`waiting for another process that holds ${path}`);
    told = true;
    await sleep(200);
  }
  try {
    return await body();
  } finally {
    await rm(path, { force: true });
  }
}

async function isAbandoned(path: string): Promise<boolean> {
  try {
    const [pid, started] = (await readFile(path, 'utf8')).trim().split(' ');
    // A process id alone may have been given to another process since.
    if (pid && started) return startTime(Number(pid)) !== started;
    // The owner creates the file and then writes who it is: an empty file is only suspicious once it is old.
    return Date.now() - (await stat(path)).mtimeMs > 5000;
  } catch {
    return false;
  }
}

/** When a process began, in clock ticks since boot; undefined when there is none. */
function startTime(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

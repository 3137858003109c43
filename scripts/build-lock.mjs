/**
 * Keeps two builds of one clone apart. The lock is an abstract Unix socket: the kernel drops it when its holder
 * dies, however it dies, so there is no stale lock file to reason about.
 */
import { createHash } from 'node:crypto';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT, say } from './host.mjs';

const RETRY_MS = 200;

/** Runs `work` while no other process builds this clone. */
export async function withBuildLock(work) {
  const name = `\0causeway-build-${createHash('sha256').update(ROOT).digest('hex').slice(0, 32)}`;
  let told = false;
  let lock = await tryListen(name);
  while (!lock) {
    if (!told) say('waiting for another build of this clone to finish');
    told = true;
    await sleep(RETRY_MS);
    lock = await tryListen(name);
  }
  try {
    return await work();
  } finally {
    await new Promise((resolve) => lock.close(resolve));
  }
}

function tryListen(name) {
  return new Promise((resolve, reject) => {
    const server = createServer((connection) => connection.destroy());
    server.once('error', (error) => (error.code === 'EADDRINUSE' ? resolve(undefined) : reject(error)));
    server.listen(name, () => resolve(server));
  });
}

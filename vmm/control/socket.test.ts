import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { answers, connectTo, controlNames, controlPath, listenAt } from './socket.ts';

let folder: string;
const servers: Server[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-socket-'));
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  rmSync(folder, { recursive: true, force: true });
});

function server(): Server {
  const made = createServer((socket) => socket.destroy());
  servers.push(made);
  return made;
}

test('names lie in the folder of the user, paths anywhere', () => {
  expect(controlPath('web-1', { XDG_RUNTIME_DIR: '/run/user/7' })).toBe('/run/user/7/causeway/web-1.sock');
  expect(controlPath('web', {})).toBe('/run/causeway/web.sock');
  expect(controlPath('/tmp/x', {})).toBe('/tmp/x');
  expect(controlPath('./x', {})).toBe(join(process.cwd(), 'x'));
  for (const name of ['', '.', '..', 'a b', 'a\n']) expect(() => controlPath(name, {})).toThrow('cannot be the name');
});

test('the socket is for this user only, in a folder made for it, and leaves nothing else behind', async () => {
  const path = join(folder, 'new', 'a.sock');
  const remove = await listenAt(server(), path);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(statSync(join(folder, 'new')).mode & 0o777).toBe(0o700);
  expect(readdirSync(folder)).toEqual(['new']);
  expect(readdirSync(join(folder, 'new'))).toEqual(['a.sock']);
  expect(await answers(path)).toBe(true);
  await remove();
  expect(existsSync(path)).toBe(false);
});

test('a socket of the dead is replaced; one of the living is not', async () => {
  const path = join(folder, 'a.sock');
  const first = server();
  await listenAt(first, path);
  await expect(listenAt(server(), path)).rejects.toMatchObject({ code: 'CONTROL_UNAVAILABLE', path });
  expect(await answers(path)).toBe(true);
  await new Promise((resolve) => first.close(resolve));
  expect(existsSync(path)).toBe(true);
  await listenAt(server(), path);
  expect(await answers(path)).toBe(true);
});

test('what was put in its place is not removed', async () => {
  const path = join(folder, 'a.sock');
  const first = server();
  const remove = await listenAt(first, path);
  await new Promise((resolve) => first.close(resolve));
  await listenAt(server(), path);
  await remove();
  expect(await answers(path)).toBe(true);
});

test('a file that is no socket stays', async () => {
  const path = join(folder, 'precious');
  writeFileSync(path, 'x');
  await expect(listenAt(server(), path)).rejects.toThrow('no socket');
  expect(statSync(path).size).toBe(1);
});

test('a path that is too long is refused, not cut off', async () => {
  const path = join(folder, 'x'.repeat(100));
  await expect(listenAt(server(), path)).rejects.toThrow('107 bytes');
  await expect(connectTo(path)).rejects.toThrow('107 bytes');
});

test('a folder that cannot be is told', async () => {
  writeFileSync(join(folder, 'file'), '');
  await expect(listenAt(server(), join(folder, 'file', 'a.sock'))).rejects.toMatchObject({
    code: 'CONTROL_UNAVAILABLE',
  });
});

test('nobody there', async () => {
  const error = await connectTo(join(folder, 'none')).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: 'CONTROL_UNAVAILABLE', exitCode: 3 });
  expect((error as { hint: string }).hint).toContain('--control');
});

test('the names of what listens or has listened', async () => {
  const environment = { XDG_RUNTIME_DIR: folder };
  expect(controlNames(environment)).toEqual([]);
  mkdirSync(join(folder, 'causeway'));
  writeFileSync(join(folder, 'causeway', 'no.sock'), '');
  for (const name of ['b', 'a']) await listenAt(server(), controlPath(name, environment));
  expect(controlNames(environment)).toEqual(['a', 'b']);
  chmodSync(join(folder, 'causeway'), 0o700);
});

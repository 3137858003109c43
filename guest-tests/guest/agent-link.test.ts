/** The agent's real script under this host's shell, through a line that can be disturbed. */
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { busybox } from '../../lab/index.ts';
import { AgentLink, type Line, MAX_COMMAND_BYTES, type Window } from './agent-link.ts';
import { AGENT_SCRIPT, WINDOW } from './agent-script.ts';

const LONG_MS = 30_000;
const WINDOW_AT = 0x3000;

/** A line to a shell that runs the agent; `disturb` changes what comes from it, piece by piece. */
class ShellLine implements Line {
  readonly requests: string[] = [];
  disturb: (text: string) => string = (text) => text;
  readonly #listeners = new Set<(bytes: Uint8Array) => void>();
  readonly #shell: ChildProcessWithoutNullStreams;
  readonly #closed: Promise<unknown>;
  #isEnding = false;

  /** @param path where its programs are */
  constructor(folder: string, path: string, environment: Record<string, string>) {
    const script = join(folder, 'agent');
    writeFileSync(script, AGENT_SCRIPT);
    this.#shell = spawn(join(path.split(':')[0]!, 'sh'), [script], {
      env: { PATH: path, GUEST_AGENT_DIR: join(folder, 'run'), ...environment },
      detached: true,
    });
    this.#closed = once(this.#shell, 'close');
    // A dead one takes nothing more.
    this.#shell.stdin.on('error', () => {});
    this.#shell.stdout.on('data', (bytes: Buffer) => {
      const text = Buffer.from(this.disturb(bytes.toString('latin1')), 'latin1');
      for (const listener of this.#listeners) listener(text);
    });
  }

  write(text: string): void {
    this.requests.push(text.split(' ')[0]!.trim());
    this.#shell.stdin.write(text);
  }

  onData(listener: (bytes: Uint8Array) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** With the agent's own subshells, which go on writing into its folder after they have answered. */
  async end(): Promise<void> {
    if (!this.#isEnding) process.kill(-this.#shell.pid!, 'SIGKILL');
    this.#isEnding = true;
    await this.#closed;
  }
}

/** The window in a file. */
class FileWindow implements Window {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    writeFileSync(path, new Uint8Array());
    truncateSync(path, WINDOW_AT + WINDOW.sizeBytes);
  }

  read(offset: number, length: number): Uint8Array {
    return readFileSync(this.path).subarray(WINDOW_AT + offset, WINDOW_AT + offset + length);
  }

  write(offset: number, bytes: Uint8Array): void {
    const file = openSync(this.path, 'r+');
    writeSync(file, bytes, 0, bytes.length, WINDOW_AT + offset);
    closeSync(file);
  }
}

/** A folder with busybox under the names of all its applets, as a guest has it. */
async function busyboxFolder(folder: string): Promise<string> {
  const program = await busybox();
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  const applets = execFileSync(program, ['--list'], { encoding: 'utf8' }).split('\n').filter(Boolean);
  for (const applet of applets) symlinkSync(program, join(bin, applet));
  return bin;
}

describe.each([
  ['sh', 'serial port'],
  ['busybox', 'serial port'],
  ['busybox', 'window'],
])('the agent under %s, by %s', (shell, way) => {
  let folder: string;
  let line: ShellLine;
  let link: AgentLink;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'agent-test-'));
    const window = way === 'window' ? new FileWindow(join(folder, 'memory')) : undefined;
    const environment: Record<string, string> = window
      ? { GUEST_MEMORY: window.path, GUEST_WINDOW: `${WINDOW_AT}` }
      : {};
    line = new ShellLine(folder, shell === 'busybox' ? await busyboxFolder(folder) : '/bin:/usr/bin', environment);
    link = new AgentLink(line, { pingMs: 200, window });
    await link.ready;
  });

  afterEach(async () => {
    link[Symbol.dispose]();
    await line.end();
    rmSync(folder, { recursive: true, force: true });
  });

  test('code, output and errors of a command come back apart', async () => {
    const result = await link.run('echo out; echo "err  *" >&2; exit 7', LONG_MS);
    expect(result).toMatchObject({ code: 7, stdout: 'out\n', stderr: 'err  *\n', isCut: false });
    expect(await link.run('cat', LONG_MS)).toMatchObject({ code: 0, stdout: '', stderr: '' });
    expect(await link.run(`printf %s 'a'"'"'$x"\\n'; exit 3`, LONG_MS)).toMatchObject({ code: 3, stdout: `a'$x"\\n` });
  });

  test('bytes survive, and commands wait for each other', async () => {
    const results = await Promise.all([
      link.run('head -c 100000 /dev/urandom > $PPID.bin; md5sum < $PPID.bin >&2; cat $PPID.bin; rm $PPID.bin', LONG_MS),
      link.run('printf "\\000\\377@R 1\\n@N 2\\r\\n"', LONG_MS),
    ]);
    expect(results[0].stdoutBytes).toHaveLength(100_000);
    expect(results[0].stderr.split(' ')[0]).toBe(createHash('md5').update(results[0].stdoutBytes).digest('hex'));
    expect(Buffer.from(results[1].stdoutBytes).toString('latin1')).toBe('\0\xff@R 1\n@N 2\r\n');
  });

  test('what is too long is cut off and says so; a command that is too long is refused', async () => {
    const result = await link.run('head -c 5000000 /dev/zero', LONG_MS);
    expect(result).toMatchObject({ code: 0, isCut: true });
    expect(result.stdoutBytes).toHaveLength(3 * 1024 * 1024);
    expect(await link.run(`: ${'x'.repeat(MAX_COMMAND_BYTES - 2)}`, LONG_MS)).toMatchObject({ code: 0 });
    expect(() => link.run('x'.repeat(MAX_COMMAND_BYTES + 1), LONG_MS)).toThrow(/32769 bytes/);
  });

  test('a command that takes too long is killed with what it started, and the next one runs', async () => {
    const started = link.run('echo begun; sleep 1000 & sleep 1001', 500);
    await expect(started).rejects.toMatchObject({
      code: 'TIMEOUT',
      message: expect.stringContaining('it wrote:\nbegun'),
    });
    const { stdout } = await link.run('cat /proc/[0-9]*/cmdline | tr "\\000" " "', LONG_MS);
    expect(stdout).toContain('agent');
    expect(stdout).not.toMatch(/sleep 100[01]/);
  });

  test('an answer that was torn is asked for again', async () => {
    let torn = 0;
    line.disturb = (text) => {
      if (torn > 0 || !text.includes('@R')) return text;
      torn++;
      return text.replace(/@R (\d+) /, '@R $1 [    3.14] e1000e: link up ');
    };
    const expected = createHash('sha256').update('x'.repeat(500)).digest('hex');
    const { stdout } = await link.run(`printf %0500d 0 | tr 0 x`, LONG_MS);
    expect(createHash('sha256').update(stdout).digest('hex')).toBe(expected);
    expect([torn, line.requests.filter((request) => request !== 'P')]).toEqual([
      1,
      [way === 'window' ? 'W' : 'R', 'A'],
    ]);
  });

  test('data that was torn, and a last line that was lost, are noticed too', async () => {
    const faults = [
      ...(way === 'window' ? [] : [(text: string) => text.replace('aGVsbG8', 'aGV[ 1.0] printk\nsbG8')]),
      (text: string) => text.replace('@R', '[ 1.0] printk@R'),
      (text: string) => text.replace(/@O \d+( window)?\n/, ''),
    ];
    for (const fault of faults) {
      let pieces = 0;
      line.disturb = (text) => {
        const changed = pieces === 0 ? fault(text) : text;
        if (changed !== text) pieces++;
        return changed;
      };
      expect(await link.run('echo hello', LONG_MS)).toMatchObject({ code: 0, stdout: 'hello\n' });
      expect(pieces).toBe(1);
      line.disturb = (text) => text;
    }
  });

  test('a line that tears everything is given up', async () => {
    line.disturb = (text) => text.replaceAll('@R', '@R x');
    await expect(link.run('true', LONG_MS)).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  test('a request that lost a character is asked for again', async () => {
    const write = line.write.bind(line);
    line.write = (text) => {
      line.write = write;
      write(text.replace(/[=0-9a-f]\n/, '\n'));
    };
    expect(await link.run('echo hello!', LONG_MS)).toMatchObject({ stdout: 'hello!\n' });
  });

  test('pings tell a slow command from a dead agent', async () => {
    const slow = link.run('sleep 1', LONG_MS);
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(line.requests).toContain('P');
    expect(link.silentMs).toBeLessThan(LONG_MS);
    await slow;
    const dead = link.run('sleep 1000', LONG_MS);
    await line.end();
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(link.silentMs).toBeGreaterThan(400);
    link.close(new Error('the guest is gone'));
    await expect(dead).rejects.toThrow('the guest is gone');
    await expect(link.run('true', LONG_MS)).rejects.toThrow('the guest is gone');
  });
});

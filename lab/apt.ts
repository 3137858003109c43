import { existsSync } from 'node:fs';
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheRoot, type Log, withLock } from './cache.ts';
import { LabError } from './errors.ts';
import { run } from './run.ts';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
const listsAreFreshForMs = 24 * 3600 * 1000;

/** The Debian releases that packages are taken from. */
export type Suite = 'bookworm' | 'trixie' | 'sid';

function sources(suite: Suite, env: NodeJS.ProcessEnv): string {
  const mirror = env.CAUSEWAY_DEBIAN_MIRROR ?? 'http://deb.debian.org/debian';
  const security = env.CAUSEWAY_DEBIAN_SECURITY_MIRROR ?? 'http://deb.debian.org/debian-security';
  const line = (uri: string, name: string) => `deb [signed-by=${keyring} arch=amd64] ${uri} ${name} main\n`;
  if (suite === 'sid') return line(mirror, 'sid');
  return [
    line(mirror, suite),
    line(mirror, `${suite}-updates`),
    line(mirror, `${suite}-backports`),
    line(security, `${suite}-security`),
  ].join('');
}

/**
 * An apt that belongs to this project alone: its own source list, package lists and download cache, and an empty
 * package database. So nothing is installed into the system, no root is needed, and what is fetched is the whole
 * closure: it runs on any machine, whatever that machine has installed.
 */
export class PrivateApt {
  readonly #directory: string;
  readonly #suite: Suite;
  readonly #log: Log;

  constructor(suite: Suite, log: Log) {
    this.#suite = suite;
    this.#directory = join(cacheRoot(), 'apt', suite);
    this.#log = log;
  }

  /** Whether this host has what the private apt needs. */
  static available(): boolean {
    return existsSync('/usr/bin/apt-get') && existsSync('/usr/bin/dpkg-deb') && existsSync(keyring);
  }

  /** Package names known to the suite that match `pattern`. */
  async names(prefix: string, pattern: RegExp): Promise<string[]> {
    await this.#update();
    const text = (await this.#apt('apt-cache', ['pkgnames', prefix])).toString();
    return text.split('\n').filter((name) => pattern.test(name));
  }

  /** The version that would be fetched for a package, or undefined when there is none. */
  async version(name: string, release?: string): Promise<string | undefined> {
    await this.#update();
    const text = (await this.#apt('apt-cache', [...target(release), 'policy', name])).toString();
    const found = /^\s*Candidate: (\S+)/m.exec(text)?.[1];
    return found === '(none)' ? undefined : found;
  }

  /** Fetch packages without their dependencies and unpack them into `into`. */
  async fetch(names: readonly string[], into: string): Promise<void> {
    await this.#update();
    const downloads = join(into, '.downloads');
    await mkdir(downloads, { recursive: true });
    this.#log(`fetching ${names.join(', ')} from Debian ${this.#suite}`);
    await this.#apt('apt-get', ['-q', 'download', ...names], { cwd: downloads });
    await unpackAll(downloads, into);
    await rm(downloads, { recursive: true });
  }

  /** Fetch packages with everything they depend on and unpack all of it into `into`. */
  async fetchClosure(names: readonly string[], into: string, release?: string): Promise<void> {
    await this.#update();
    const downloads = join(into, '.downloads');
    await mkdir(join(downloads, 'partial'), { recursive: true });
    const plan = await this.#apt('apt-get', [...target(release), '-q', '-y', '--print-uris', 'install', ...names]);
    const files = [...plan.toString().matchAll(/^'[^']+' \S+ (\d+) /gm)];
    const megabytes = files.reduce((sum, match) => sum + Number(match[1]), 0) / 1e6;
    const what = `${names.join(', ')} from Debian ${release ?? this.#suite}`;
    this.#log(`fetching ${what}: ${files.length} packages, ${megabytes.toFixed(0)} MB`);
    let got = 0;
    let told = Date.now();
    await this.#apt(
      'apt-get',
      [
        ...target(release),
        '-q',
        '-y',
        '-o',
        `Dir::Cache::archives=${downloads}`,
        '--download-only',
        'install',
        ...names,
      ],
      {
        onLine: (line) => {
          if (!line.startsWith('Get:')) return;
          got += 1;
          if (Date.now() - told < 2000) return;
          told = Date.now();
          this.#log(`  ${got} of ${files.length} packages`);
        },
      },
    );
    this.#log(`unpacking ${files.length} packages`);
    await unpackAll(downloads, into);
    await rm(downloads, { recursive: true });
  }

  async #update(): Promise<void> {
    const stamp = join(this.#directory, 'updated');
    const fresh = async () => existsSync(stamp) && Date.now() - (await stat(stamp)).mtimeMs < listsAreFreshForMs;
    if (await fresh()) return;
    await withLock(`${this.#directory}.lock`, async () => {
      if (await fresh()) return;
      await this.#configure();
      this.#log(`fetching the package lists of Debian ${this.#suite}`);
      await this.#apt('apt-get', ['-q', 'update', '-o', 'APT::Update::Error-Mode=any']);
      await writeFile(stamp, '');
    });
  }

  async #configure(): Promise<void> {
    const directory = this.#directory;
    await mkdir(join(directory, 'state/lists/partial'), { recursive: true });
    await mkdir(join(directory, 'cache/archives/partial'), { recursive: true });
    await mkdir(join(directory, 'etc'), { recursive: true });
    await writeFile(join(directory, 'state/status'), '');
    await writeFile(join(directory, 'etc/sources.list'), sources(this.#suite, process.env));
    // The host's own apt configuration is shut out, except for how to reach the network.
    const host = (await run('apt-config', ['dump'])).toString();
    const network = host
      .split('\n')
      .filter((line) => /^Acquire::(https?::(Proxy|Timeout|.*::Proxy)|Check-(Valid-Until|Date)|Retries)\b/i.test(line));
    const none = (name: string) => `Dir::Etc::${name} "/dev/null";\n`;
    const text = [
      `Dir "${directory}/";\nDir::State "state";\nDir::State::lists "lists";\nDir::State::status "status";\n`,
      'Dir::Cache "cache";\nDir::Etc "etc";\nDir::Etc::sourcelist "sources.list";\n',
      ...['sourceparts', 'parts', 'main', 'trusted', 'trustedparts', 'preferences', 'preferencesparts'].map(none),
      'APT::Architecture "amd64";\nAPT::Architectures { "amd64"; };\nAPT::Sandbox::User "";\n',
      'APT::Install-Recommends "false";\nAPT::Install-Suggests "false";\nAcquire::Languages "none";\n',
      `${network.join('\n')}\n`,
    ];
    await writeFile(join(directory, 'apt.conf'), text.join(''));
  }

  async #apt(
    program: string,
    args: readonly string[],
    options: { cwd?: string; onLine?: (line: string) => void } = {},
  ): Promise<Buffer> {
    return run(program, args, {
      ...options,
      env: { ...process.env, LC_ALL: 'C', APT_CONFIG: join(this.#directory, 'apt.conf') },
      code: 'LAB_FETCH_FAILED',
      hint: 'the first run needs a Debian mirror; behind a proxy set http_proxy, or name a mirror in CAUSEWAY_DEBIAN_MIRROR',
    });
  }
}

function target(release: string | undefined): string[] {
  return release === undefined ? [] : ['-t', release];
}

async function unpackAll(downloads: string, into: string): Promise<void> {
  const packages = (await readdir(downloads)).filter((name) => name.endsWith('.deb'));
  if (packages.length === 0) throw new LabError('LAB_FETCH_FAILED', 'apt fetched no package');
  for (const name of packages) {
    // Not --extract: as root that would also restore owners; a plain tar run keeps everything the caller's own.
    await run(
      'sh',
      ['-c', 'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --no-same-owner', 'sh', join(downloads, name), into],
      {
        code: 'LAB_FETCH_FAILED',
      },
    );
  }
}

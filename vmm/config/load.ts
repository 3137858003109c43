/** Loads a configuration file: JSON, JavaScript or TypeScript. */
import { readFile } from 'node:fs/promises';
import { dirname, extname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { CausewayError } from '../base/errors.ts';
import type { ConfigContext } from './define-vm.ts';

const EXTENSIONS = ['.json', '.ts', '.mts', '.js', '.mjs'];
/** Fields that are paths: relative ones are taken from the file's own folder, so that it works from anywhere. */
const PATH_FIELDS = ['kernel', 'initrd'];

/**
 * The configuration that a file holds: JSON, or the default export, an object or a function of the context. Not yet checked:
 * {@link normaliseVmConfig} does that.
 * @throws CausewayError CONFIG_INVALID when the file cannot be read or run, with its own error as the cause
 */
export async function loadVmConfig(path: string, context: ConfigContext = {}): Promise<unknown> {
  const file = resolve(path);
  const extension = extname(file);
  if (!EXTENSIONS.includes(extension)) {
    throw invalid(file, `its name must end in ${EXTENSIONS.join(', ')}`);
  }
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw invalid(file, messageOf(cause), cause);
  }
  try {
    const value = extension === '.json' ? (JSON.parse(text) as unknown) : await importDefault(file);
    const config: unknown = typeof value === 'function' ? await value(context) : value;
    return withAbsolutePaths(config, dirname(file));
  } catch (cause) {
    throw invalid(file, messageOf(cause), cause);
  }
}

async function importDefault(file: string): Promise<unknown> {
  const isTypeScript = /\.m?ts$/.test(file);
  const module =
    isTypeScript && !nodeRunsTypeScript() ? await importWithJiti(file) : await import(pathToFileURL(file).href);
  if (module.default === undefined) throw new Error('it has no default export');
  return module.default;
}

function nodeRunsTypeScript(): boolean {
  return Boolean((process.features as { readonly typescript?: unknown }).typescript);
}

/** Node 20 and the early 22 cannot import TypeScript. jiti is loaded only then: it costs a quarter of a second. */
async function importWithJiti(file: string): Promise<{ default?: unknown }> {
  const { createJiti } = await import('jiti');
  return createJiti(import.meta.url, { fsCache: false, interopDefault: false }).import(file);
}

function withAbsolutePaths(config: unknown, folder: string): unknown {
  if (typeof config !== 'object' || config === null || Array.isArray(config)) return config;
  const copy: Record<string, unknown> = { ...config };
  for (const field of PATH_FIELDS) {
    const value = copy[field];
    if (typeof value === 'string' && value !== '') copy[field] = resolve(folder, value);
  }
  return copy;
}

function invalid(path: string, message: string, cause?: unknown): CausewayError {
  return new CausewayError('CONFIG_INVALID', `${path}: ${message}`, { path, cause });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

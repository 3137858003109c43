/** Writes the results of a run: into its folder, and wherever the options say. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import type { RunRecord } from '../model.ts';
import { junitXml } from '../report/junit.ts';
import type { RunFolder } from '../run/run-folder.ts';
import type { TestOptionValues } from './test-options.ts';

export function writeResults(run: RunRecord, folder: RunFolder, options: TestOptionValues, stdout: Writable): void {
  const json = `${JSON.stringify(run, null, 1)}\n`;
  folder.write('run.json', json);
  for (const device of run.devices) {
    for (const [when, config] of [
      ['before', device.configBefore],
      ['after', device.configAfter],
    ] as const) {
      if (config)
        folder.write(`devices/${device.label}-${when}.txt`, configText(`${device.bdf} ${device.name ?? ''}`, config));
    }
  }
  if (options.json === '-') stdout.write(json);
  else if (options.json !== undefined) writeTo(options.json, json);
  if (options.junit !== undefined) writeTo(options.junit, junitXml(run));
}

function writeTo(path: string, content: string): void {
  mkdirSync(dirname(resolve(path)), { recursive: true });
  writeFileSync(path, content);
}

/** As `lspci -xxxx` prints it, so that `lspci -F FILE -vvv` explains it. */
export function configText(title: string, config: string): string {
  const bytes = config.match(/../g) ?? [];
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    lines.push(`${at.toString(16).padStart(2, '0')}: ${bytes.slice(at, at + 16).join(' ')}`);
  }
  return `${title.trim()}\n${lines.join('\n')}\n\n`;
}

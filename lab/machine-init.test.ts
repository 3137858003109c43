import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { initScript, initWords } from './machine-init.ts';

const parameters = {
  binds: ['vfio-pci', 'host'] as const,
  vfs: [0, 2],
  modules: ['kvm-amd', 'vfio-pci'],
  drivers: [],
  shareDir: '/tmp/my "lab", übung',
  node: '/usr/bin/node',
  agent: '/x/agent.js',
};

test('odd bytes in a path survive the kernel command line', () => {
  const words = initWords(parameters).split(' ');
  expect(words).toHaveLength(7);
  expect(words).toContain('lab.vfs=0:vfio-pci,2:host');
  const share = words.find((word) => word.startsWith('lab.share='))?.slice('lab.share='.length) ?? '';
  expect(share).not.toMatch(/[\s"]/);
  expect(execFileSync('bash', ['-c', 'printf %b "$1"', 'bash', share]).toString()).toBe(parameters.shareDir);
});

test('the script is one that a shell can read', () => {
  expect(() => execFileSync('sh', ['-n'], { input: initScript })).not.toThrow();
});

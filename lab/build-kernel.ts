/** `npm run lab:kernel`: builds the kernel that has iommufd, unless it is in the cache. */
import { LabError } from './errors.ts';
import { buildKernel, builtKernelName } from './kernel-build.ts';

const help = `Usage: npm run lab:kernel [-- --refresh]

Builds a small Linux from Debian's source package, with iommufd and VFIO device files, which Debian's own kernels lack.
It takes 160 MB to download, 3 GB on disk while it is built, and ten minutes or more; what stays are 4 MB in the
cache. The lab runs it with --kernel ${builtKernelName}.
`;

const words = process.argv.slice(2);
const log = (line: string) => process.stderr.write(`lab: ${line}\n`);

try {
  if (words.includes('--help') || words.includes('-h')) process.stdout.write(help);
  else if (words.some((word) => word !== '--refresh')) throw new LabError('LAB_USAGE', help);
  else {
    const { vmlinuz, version } = await buildKernel({ log, refresh: words.includes('--refresh') });
    log(`Linux ${version}: ${vmlinuz}`);
  }
} catch (error) {
  if (!(error instanceof LabError)) throw error;
  log(error.message);
  if (error.hint !== undefined) log(error.hint);
  process.exitCode = error.code === 'LAB_USAGE' ? 2 : 1;
}

// One machine of QEMU without KVM: it boots, does what /guest/init says, and its results are read from its second disk.
import { spawn } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { say } from '../run.mjs';
import { output } from './output.mjs';

/** Lines of the console that begin so are for people; the rest is kept, and shown when the machine fails. */
const MARK = '▸ ';

/** TCG is quicker without what costs much to emulate: five levels of page tables, pointer authentication in software. */
const machines = {
  amd64: ['qemu-system-x86_64', '-cpu', 'max,la57=off'],
  arm64: ['qemu-system-aarch64', '-machine', 'virt', '-cpu', 'max,pauth-impdef=on'],
};
/** A guest that hardly gets a processor takes its timer for broken, and panics: it is told not to look. */
const bootWords = { amd64: 'console=ttyS0 no_timer_check', arm64: 'console=ttyAMA0' };

/**
 * @param {{ name: string, architecture: 'amd64' | 'arm64', image: string, initrd: string, root: string, folder: string, minutes: number, words: string,
 *   parameters: Record<string, string>, signal: AbortSignal }} machine
 *   root: the disk, which is not written to; folder: gets console and results; words: for the kernel; parameters: for the guest's environment
 * @returns {Promise<{ results: string, trouble: string | null }>} the folder of results, and why the machine did not end
 *   by itself
 */
export async function runMachine({
  name,
  architecture,
  image,
  initrd,
  root,
  folder,
  minutes,
  words,
  parameters,
  signal,
}) {
  const disk = join(folder, `results-${name}.img`);
  output(['mke2fs', '-q', '-t', 'ext4', disk, '64M']);
  const environment = Object.entries(parameters).map(([key, value]) => `${key}=${value}`);
  const argv = [
    ...machines[architecture],
    ...['-accel', 'tcg,thread=multi', '-smp', '2', '-m', '3G'],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-nic', 'none', '-serial', 'stdio'],
    ...['-kernel', image, '-initrd', initrd],
    ...['-append', [bootWords[architecture], 'mitigations=off panic=5 loglevel=4', words, ...environment].join(' ')],
    ...['-drive', `file=${root},if=virtio,format=raw,snapshot=on`, '-drive', `file=${disk},if=virtio,format=raw`],
  ];
  const limit = AbortSignal.any([signal, AbortSignal.timeout(minutes * 60_000)]);
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'nice', '-n', '19', ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: limit,
    killSignal: 'SIGKILL',
  });
  const console = join(folder, `console-${name}.txt`);
  const kept = createWriteStream(console);
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    kept.write(`${line}\n`);
    if (line.startsWith(MARK)) say(line.trimEnd());
  });
  child.stderr.on('data', (text) => kept.write(text));
  const status = await new Promise((resolve) => {
    child.on('error', (error) => error.name === 'AbortError' || kept.write(`${error.message}\n`));
    child.on('close', (code) => resolve(code));
  });
  await new Promise((resolve) => kept.end(resolve));
  const results = join(folder, `results-${name}`);
  mkdirSync(results);
  output(['debugfs', '-R', `rdump / ${results}`, disk], { tolerate: true });
  if (signal.aborted) return { results, trouble: 'it was stopped' };
  if (limit.aborted) return { results, trouble: `it did not end within ${minutes} minutes\n${tail(console)}` };
  // After a panic, too, QEMU ends without an error.
  if (status === 0 && existsSync(join(results, 'status'))) return { results, trouble: null };
  return { results, trouble: `QEMU ended with ${status}, and the guest without a result\n${tail(console)}` };
}

function tail(path) {
  return readFileSync(path, 'utf8').split('\n').slice(-30).join('\n');
}

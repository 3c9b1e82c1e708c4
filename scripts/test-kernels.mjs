// npm run test:kernels: the built checkout on stock kernels of Debian, in machines of QEMU without KVM.
// Each boots, runs test/kernels/ and some of the system tests, and tells what failed; nothing is mounted, the guest has no network.
// Where no such machine can be had: skipped, with the reason; in CI that counts as failed, or nobody would notice.
// The last line is `N passed, N failed, N skipped`; TWEED_SUMMARY_FILE: it goes to this file instead.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { DebianArchive } from './support/kernels/debian-archive.mjs';
import { makeInitrd, unpackKernel } from './support/kernels/debian-kernel.mjs';
import {
  copyCheckout,
  copyGuest,
  copyNode,
  makeImage,
  rootSuites,
  unpackSystem,
} from './support/kernels/guest-root.mjs';
import { runMachine } from './support/kernels/machine.mjs';
import { findProgram, project, SetupError, say } from './support/run.mjs';
import { main, setupProject } from './support/setup.mjs';
import { ensureTools } from './support/tools.mjs';
import { judgeResults } from './support/vitest-results.mjs';

const usage = `usage: npm run test:kernels -- [--smoke] [--kernel NAME]… [--keep] [FILE…]
  --smoke         one kernel, the matrix of the lab over the udp backend
  --kernel NAME   this kernel of test/kernels/kernels.json; given several times: these; without: all
  --keep          leaves images, consoles and results where they are, and says where
  FILE            these test files instead of all that are chosen`;

/** System tests that show what a kernel does; the others show what tweed does, which one kernel is enough for. */
const chosen = [
  'test/kernels/',
  ...['wire-format', 'path-mtu', 'segmentation-oracle', 'icmp'].map((name) => `test/system/datapath/${name}.test.ts`),
  ...['rules', 'rules-traffic', 'doctor'].map((name) => `test/system/routes/${name}.test.ts`),
  ...['vxlan', 'host-gw'].map((name) => `test/system/backends/${name}.test.ts`),
];
const smoke = { kernel: '6.1', files: ['test/kernels/matrix.test.ts'], backends: 'udp', minutes: 15, floor: 2 };
/** TCG is 20 to 60 times slower than the machine that the tests' limits are made for. */
const PATIENCE = '20';
const MINUTES = 150;

const kernels = JSON.parse(readFileSync(join(project, 'test/kernels/kernels.json'), 'utf8'));

function readArguments(args) {
  const options = { smoke: { type: 'boolean' }, kernel: { type: 'string', multiple: true }, keep: { type: 'boolean' } };
  let parsed;
  try {
    parsed = parseArgs({ args, options, allowPositionals: true });
  } catch (error) {
    throw new SetupError(`${error.message}\n${usage}`);
  }
  const { values, positionals } = parsed;
  const names = values.kernel ?? (values.smoke ? [smoke.kernel] : kernels.map(({ name }) => name));
  const unknown = names.find((name) => !kernels.some((kernel) => kernel.name === name));
  if (unknown !== undefined) {
    throw new SetupError(`no kernel ${unknown}; there are ${kernels.map(({ name }) => name).join(', ')}\n${usage}`);
  }
  // null: what each kernel is tested with
  const files = positionals.length > 0 ? positionals : values.smoke ? smoke.files : null;
  return {
    ...values,
    files,
    kernels: kernels.filter(({ name }) => names.includes(name)),
  };
}

const stopping = new AbortController();

/** Says how long each part took. None begins after a signal, which is heard between them: some of them are one synchronous piece. */
async function step(title, work) {
  await setImmediate();
  if (stopping.signal.aborted) throw new SetupError('stopped');
  const started = performance.now();
  const result = await work();
  say(`• ${title}: ${((performance.now() - started) / 1000).toFixed(0)} s`);
  return result;
}

/** These tests cannot run here at all. */
class NoMachineError extends SetupError {}

async function setup(architectures) {
  if (process.arch !== 'x64') throw new NoMachineError('the tests are built for machines that run on x86-64');
  if (findProgram('apt-get') === null) throw new NoMachineError('the kernels are Debian’s, and need its apt');
  await setupProject();
  const purposes = ['kernels', ...(architectures.includes('arm64') ? ['arm64'] : [])];
  for (const purpose of purposes) {
    const problems = await ensureTools(purpose);
    if (problems.length > 0) throw new NoMachineError(problems.join('\n✗ '));
  }
}

async function test(plan, folder, add) {
  const architectures = [...new Set(plan.kernels.map(({ architecture }) => architecture))];
  await step('tools and build', () => setup(architectures));
  for (const architecture of architectures) {
    const kernels = plan.kernels.filter((kernel) => kernel.architecture === architecture);
    await testOn(architecture, { ...plan, kernels }, join(folder, architecture), add);
  }
}

/** Makes one disk for all kernels of an architecture, and boots each with it. */
async function testOn(architecture, plan, folder, add) {
  mkdirSync(folder);
  const root = join(folder, 'root');
  const archive = (name, suites) => new DebianArchive(join(folder, name), suites, architecture);
  await step('programs', () => unpackSystem(root, archive('apt', rootSuites)));
  await step('checkout', async () => {
    await copyNode(root, architecture);
    await copyCheckout(root, architecture);
  });
  const unpacked = await step('kernels', () =>
    plan.kernels.map((kernel) =>
      unpackKernel(kernel, archive(`apt-${kernel.name}`, kernel.suites), join(folder, kernel.name)),
    ),
  );
  copyGuest(root, { TWEED_PATIENCE: PATIENCE, ...(plan.smoke && { TWEED_KERNELS_BACKENDS: smoke.backends }) });
  for (const { modules } of unpacked) {
    const target = join(root, 'usr/lib/modules', basename(modules));
    cpSync(modules, target, { recursive: true, verbatimSymlinks: true });
  }
  const image = await step('image', () => makeImage(root));
  const { floors, skips } = JSON.parse(readFileSync(join(project, '.ci/tests.json'), 'utf8'));
  for (const [i, kernel] of plan.kernels.entries()) {
    const { version } = unpacked[i];
    say(`\n── Linux ${version} (${kernel.what})`);
    const initrd = { init: join(project, 'test/kernels/guest/initrd'), busybox: join(root, 'usr/bin/busybox') };
    const files = plan.files ?? kernel.files ?? chosen;
    const { results, trouble } = await step(`Linux ${version}`, () =>
      runMachine({
        name: kernel.name,
        architecture,
        image: unpacked[i].image,
        initrd: makeInitrd(unpacked[i], initrd),
        root: image,
        folder,
        minutes: plan.smoke ? smoke.minutes : MINUTES,
        words: kernel.words ?? '',
        parameters: { TWEED_KERNEL: kernel.name, TWEED_KERNEL_VERSION: version, TWEED_FILES: files.join(',') },
        signal: stopping.signal,
      }),
    );
    if (trouble !== null) say(`✗ ${trouble}`);
    const floor = plan.smoke ? smoke.floor : plan.files === null ? (kernel.floor ?? floors.kernels) : 1;
    add(judge(results, { floor, skips, trouble }));
  }
}

/** The guest's kernel is known, so a test is skipped there only when the list allows it. */
function judge(results, { floor, skips, trouble }) {
  const read = (name) => {
    try {
      return readFileSync(join(results, name), 'utf8');
    } catch {
      return null;
    }
  };
  const json = read('results.json');
  const status = trouble === null ? Number(read('status') ?? 1) : 1;
  const { counts, remarks } = judgeResults(json && JSON.parse(json), { status, floor, skips, ci: true });
  for (const remark of remarks) say(remark);
  if (counts.failed > 0) say((read('vitest.txt') ?? '').split('\n').slice(-150).join('\n'));
  return counts;
}

await main(async (args) => {
  const folder = mkdtempSync(join(tmpdir(), 'tweed-kernels-'));
  for (const name of ['SIGINT', 'SIGTERM']) process.on(name, () => stopping.abort());
  const total = { passed: 0, failed: 0, skipped: 0 };
  try {
    await test(readArguments(args), folder, (counts) => {
      for (const key of Object.keys(total)) total[key] += counts[key];
    });
    if (stopping.signal.aborted) throw new SetupError('stopped');
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(`✗ ${error.message}`);
    if (error instanceof NoMachineError && !process.env.CI) total.skipped++;
    else total.failed++;
  } finally {
    if (args.includes('--keep')) say(`• kept: ${folder}`);
    else rmSync(folder, { recursive: true, force: true });
  }
  const summary = `${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`;
  if (process.env.TWEED_SUMMARY_FILE) writeFileSync(process.env.TWEED_SUMMARY_FILE, `${summary}\n`);
  else say(`\n${summary}`);
  return total.failed === 0 ? 0 : 1;
});

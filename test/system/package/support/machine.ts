import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { type ExecResult, exec } from '../../../../src/base/exec.js';
import { eventually, type TestHost } from '../../daemon/hosts.js';

const script = fileURLToPath(new URL('./machine.sh', import.meta.url));
const systemd = '/lib/systemd/systemd';

/** Why no systemd can be started here; empty when one can. In CI it must, so there it throws. */
export function whyNoSystemd(): string {
  if (fs.existsSync(systemd)) return '';
  const reason = `${systemd} is not there (Debian's package systemd)`;
  if (process.env.CI) throw new Error(`${reason}, and CI must not skip its tests`);
  return reason;
}

/** What systemd's own dependencies name; without them no service starts. */
const units = Object.fromEntries(
  ['machine', 'sysinit', 'basic', 'shutdown'].map((name) => [
    `${name}.target`,
    '[Unit]\nDefaultDependencies=no\nRefuseManualStart=no\n',
  ]),
);

/** systemd as process 1 of namespaces of its own (machine.sh), with the network of a test's host. */
export class Machine {
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #scratch: string;
  readonly #group: string;
  #pid = 0;
  #said = '';

  private constructor(
    readonly host: TestHost,
    { files, registry, scratch }: { readonly files: string; readonly registry: string; readonly scratch: string },
  ) {
    this.#scratch = scratch;
    this.#group = `tweed-test-${host.namespace}`;
    const settings = { SCRATCH: scratch, FILES: files, GROUP: this.#group, NODE: process.execPath };
    const argv = [
      ...['--pdeathsig=KILL', 'nsenter', `--net=/run/netns/${host.namespace}`],
      ...['unshare', '--pid', '--fork', '--kill-child=KILL', '--mount', '--uts', '--ipc', 'sh', script],
    ];
    this.#process = spawn('setpriv', argv, {
      env: { ...process.env, ...settings, REGISTRY: registry, RUN: host.directory },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#ended = new Promise((resolve) => this.#process.once('close', resolve));
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on('line', (line) => {
        const [, pid] = /^process (\d+)$/.exec(line) ?? [];
        if (pid === undefined) this.#said += `${line}\n`;
        else this.#pid = Number(pid);
      });
    }
  }

  /**
   * @param debian tweed's package, not installed yet
   * @param registry a directory, /var/lib/registry in the machine
   * @param options what /etc/tweed.env says
   */
  static async boot(
    host: TestHost,
    { debian, registry, options }: { readonly debian: string; readonly registry: string; readonly options: string },
  ): Promise<Machine> {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tweed-machine-'));
    const [files, scratch] = ['files', 'scratch'].map((name) => path.join(folder, name)) as [string, string];
    fs.mkdirSync(scratch);
    const own = path.join(files, 'usr/lib/systemd/machine');
    fs.mkdirSync(path.join(own, 'tweed.service.d'), { recursive: true });
    for (const [name, text] of Object.entries(units)) fs.writeFileSync(path.join(own, name), text);
    fs.symlinkSync('../system/tweed.service', path.join(own, 'tweed.service'));
    // no journal runs
    const log = '[Service]\nStandardOutput=append:/var/log/tweed.log\nStandardError=append:/var/log/tweed.log\n';
    fs.writeFileSync(path.join(own, 'tweed.service.d/log.conf'), log);
    fs.mkdirSync(path.join(files, 'etc'));
    fs.writeFileSync(path.join(files, 'etc/tweed.env'), options);
    fs.copyFileSync(debian, path.join(files, 'tweed.deb'));
    const machine = new Machine(host, { files, registry, scratch });
    try {
      await eventually(async () => {
        const { status, stderr } = await machine.run('systemctl', 'is-active', 'machine.target');
        expect(status, `${machine.#said}${stderr}`).toBe(0);
      });
    } catch (error) {
      await machine.remove();
      throw error;
    }
    return machine;
  }

  /** Runs a program in the machine. */
  async run(...argv: string[]): Promise<ExecResult> {
    const namespaces = ['--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup'];
    return exec(['nsenter', `--target=${this.#pid}`, ...namespaces, ...argv], { tolerate: true });
  }

  /** Installs tweed's package, or upgrades to it. The options stay; Node is there, though not as a package. */
  async install(): Promise<void> {
    const words = ['--force-confold', '--force-depends', '--no-triggers', '--install', '/tweed.deb'];
    const { status, stdout, stderr } = await this.run('dpkg', ...words);
    expect(status, `${stdout}${stderr}`).toBe(0);
  }

  /** Writes a file in the machine. */
  async write(file: string, text: string): Promise<void> {
    const { status, stderr } = await this.run('sh', '-c', 'printf %s "$1" > "$2"', 'sh', text, file);
    expect(status, stderr).toBe(0);
  }

  /** `systemctl …`, which has to go well. @returns what it prints */
  async systemctl(...words: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.run('systemctl', ...words);
    expect(status, `systemctl ${words.join(' ')}: ${stderr}${status === 0 ? '' : await this.logs()}`).toBe(0);
    return stdout.trim();
  }

  /** A property of tweed's unit. */
  property(name: string): Promise<string> {
    return this.systemctl('show', '--value', `--property=${name}`, 'tweed');
  }

  /** What systemd and the daemon have said. */
  async logs(): Promise<string> {
    return (await this.run('tail', '-n', '40', '/dev/kmsg', '/var/log/tweed.log')).stdout;
  }

  async remove(): Promise<void> {
    this.#process.kill('SIGKILL'); // process 1 goes with it, and everything with that
    await this.#ended;
    // its control groups are the kernel's: emptied by now, or about to be
    const removal = 'mount -t cgroup2 cgroup2 "$1" && find "$1/$2" -depth -type d -exec rmdir {} +';
    await eventually(async () => {
      const argv = ['unshare', '--mount', 'sh', '-c', removal, 'sh', this.#scratch, this.#group];
      const { stderr } = await exec(argv, { tolerate: true });
      expect(stderr.replace(/^find: .*No such file or directory\n/gm, '')).toBe('');
    });
    fs.rmSync(path.dirname(this.#scratch), { recursive: true });
  }
}

/**
 * Network namespaces without names.
 *
 * A namespace here is held by a descriptor of the test process alone, so it is gone with all its devices as soon as the
 * test lets go of it or dies, however it dies: nothing can be left behind. `enter` moves the calling thread inside for
 * the time of a function; sockets that are made and programs that are started there stay there for good.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import koffi from 'koffi';
import type { ExecResult } from '../../../../src/base/exec.js';
import { exec } from '../../../support/exec.js';

const libc = koffi.load(null);
const unshare = libc.func('int unshare(int flags)') as (flags: number) => number;
const setns = libc.func('int setns(int fd, int type)') as (fd: number, type: number) => number;
const CLONE_NEWNET = 0x40000000;
const OWN = '/proc/thread-self/ns/net';

let home = -1;

function moveTo(fd: number): void {
  if (setns(fd, CLONE_NEWNET) < 0) throw new Error(`setns: errno ${koffi.errno()}; run the tests as root`);
}

export class Namespace {
  readonly #fd: number;

  constructor() {
    if (home < 0) home = openSync(OWN, 'r');
    if (unshare(CLONE_NEWNET) < 0) throw new Error(`unshare: errno ${koffi.errno()}; run the tests as root`);
    try {
      this.#fd = openSync(OWN, 'r');
    } finally {
      moveTo(home);
    }
  }

  /** How `ip link … netns` may name it, as long as this process lives. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.#fd}`;
  }

  /** Runs a function inside. It must not be asynchronous: only what happens before it returns is inside. */
  enter<T>(work: () => T): T {
    moveTo(this.#fd);
    try {
      return work();
    } finally {
      moveTo(home);
    }
  }

  /** Runs a program inside and waits for its end; throws when it fails. */
  run(...argv: string[]): Promise<ExecResult> {
    return this.enter(() => exec(argv));
  }

  /** Runs commands of `ip`, one a line, in one process. */
  async ip(...commands: string[]): Promise<void> {
    await this.enter(() => exec(['ip', '-batch', '-'], { input: `${commands.join('\n')}\n` }));
  }

  /** Starts a program inside. */
  spawn(program: string, args: readonly string[], options: SpawnOptions): ChildProcess {
    return this.enter(() => spawn(program, args, options));
  }

  /** Reads a file that shows something else in each namespace, such as /proc/thread-self/net/snmp. */
  read(path: string): string {
    return this.enter(() => readFileSync(path, 'utf8'));
  }

  /** Sets a switch below /proc/sys/net. */
  sysctl(name: string, value: number): void {
    this.enter(() => writeFileSync(`/proc/sys/net/${name}`, String(value)));
  }

  /** One of the kernel's counters of this namespace, such as `Udp`, `InCsumErrors` (/proc/net/snmp, netstat). */
  counter(protocol: string, name: string): number {
    const text = this.read('/proc/thread-self/net/snmp') + this.read('/proc/thread-self/net/netstat');
    const [names = [], values = []] = text
      .split('\n')
      .filter((line) => line.startsWith(`${protocol}: `))
      .map((line) => line.split(' '));
    const column = names.indexOf(name);
    if (column < 0) throw new Error(`the kernel has no counter ${protocol} ${name}`);
    return Number(values[column]);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Joins two namespaces by a veth pair whose ends are up. */
export async function connect(a: Namespace, nameInA: string, b: Namespace, nameInB: string, mtu = 1500): Promise<void> {
  await a.ip(
    `link add ${nameInA} mtu ${mtu} type veth peer name ${nameInB} mtu ${mtu} netns ${b.path}`,
    `link set ${nameInA} up`,
  );
  await b.ip(`link set ${nameInB} up`);
}

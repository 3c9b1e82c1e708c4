import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { assertBuilt } from '../../support/built.js';

const bin = fileURLToPath(new URL('../../../bin/tweed', import.meta.url));
const built = fileURLToPath(new URL('../../../dist/cli/tweed.cjs', import.meta.url));

let directory: string;
const children: ChildProcess[] = [];

beforeAll(() => assertBuilt());
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tweed-inspector-'));
  fs.symlinkSync(bin, path.join(directory, 'flanneld'));
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await new Promise((resolve) => child.once('close', resolve));
    }
  }
  fs.rmSync(directory, { recursive: true });
});

function start(program: readonly string[], environment: NodeJS.ProcessEnv = {}) {
  const home = fs.mkdtempSync(path.join(directory, 'run-'));
  const flags = [`-etcd-endpoints=file://${home}/registry`, '-run-dir', home, '-subnet-file', path.join(home, 'env')];
  const [command = '', ...words] = program;
  const child = spawn(command, [...words, ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
  });
  children.push(child);
  const said = { text: '' };
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      said.text += chunk;
    });
  }
  const up = async () => {
    while (!said.text.includes('tweed starts')) {
      if (child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`ended with ${child.exitCode ?? child.signalCode}: ${said.text}`);
      }
      await delay(2);
    }
  };
  return { child, said, up };
}

/** Does anybody listen where Node's inspector does? */
function listens(port = 9229): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** Does the process ignore, catch or hold back a signal? It does not die of it then. */
function minds({ pid }: ChildProcess, signal: NodeJS.Signals = 'SIGUSR1', ways = 'Ign|Cgt|Blk'): boolean {
  try {
    const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
    const sets = [...status.matchAll(new RegExp(`^Sig(?:${ways}):\\s*(\\w+)$`, 'gm'))].map(([, set]) =>
      BigInt(`0x${set}`),
    );
    return sets.some((set) => (set & (1n << BigInt(os.constants.signals[signal] - 1))) !== 0n);
  } catch {
    return false;
  }
}

const programs: readonly (readonly [string, () => readonly string[]])[] = [
  ['tweed run', () => [bin, 'run']],
  ['flanneld', () => [path.join(directory, 'flanneld')]],
];

// Before the first instruction of bin/tweed a signal does what the kernel says, to any program.
describe.each(programs)('SIGUSR1 to %s', (_name, command) => {
  it('opens no inspector and ends nothing, sent every other millisecond of the start', async () => {
    const { child, up } = start(command());
    while (!minds(child)) await delay(0);
    let over = false;
    const opened: boolean[] = [];
    const signals = (async () => {
      for (; !over; await delay(2)) child.kill('SIGUSR1');
    })();
    const looks = (async () => {
      for (; !over; await delay(5)) opened.push(await listens());
    })();
    await up();
    await delay(100);
    over = true;
    await Promise.all([signals, looks]);
    expect(opened).not.toContain(true);
    expect(child.signalCode).toBeNull();
  });

  it('does neither, sent once at any moment', async () => {
    for (let milliseconds = 0; milliseconds < 160; milliseconds += 20) {
      const { child, up } = start(command());
      while (!minds(child)) await delay(0);
      await delay(milliseconds);
      child.kill('SIGUSR1');
      await up();
      expect([milliseconds, await listens()]).toEqual([milliseconds, false]);
      child.kill('SIGKILL');
    }
  });
});

describe('the other ways to an inspector', () => {
  it.each(['--inspect=127.0.0.1:9229', '--inspect-brk=127.0.0.1:9229'])(
    'NODE_OPTIONS=%s opens none',
    async (options) => {
      const { up } = start([bin, 'run'], { NODE_OPTIONS: options });
      await up();
      expect(await listens()).toBe(false);
    },
  );

  it('NODE_OPTIONS is no way past dist either: the inspector is closed, and the log says so', async () => {
    const { said, up } = start([process.execPath, built, 'run'], { NODE_OPTIONS: '--inspect=127.0.0.1:9231' });
    await up();
    expect(said.text).toContain("Node's inspector was open");
    expect(await listens(9231)).toBe(false);
  });
});

describe('other signals during the start', () => {
  it.each(['SIGUSR2', 'SIGHUP'] as const)('%s is nothing to end of', async (signal) => {
    // Node puts all signals back to what the kernel does, so this holds as soon as a handler of ours stands
    const { child, up } = start([bin, 'run', '-drop-privileges=false']);
    while (!minds(child, signal, 'Cgt')) await delay(0);
    child.kill(signal);
    await up();
    expect(child.signalCode).toBeNull();
  });

  it.each(['SIGTERM', 'SIGINT'] as const)('%s ends it with nothing left behind', async (signal) => {
    for (const milliseconds of [0, 30, 60, 90, 120, 200]) {
      const { child, said } = start([bin, 'run']);
      const ended = new Promise((resolve) => child.once('close', (status, by) => resolve(by ?? status)));
      while (!minds(child)) await delay(0);
      await delay(milliseconds);
      child.kill(signal);
      expect([0, signal]).toContain(await ended);
      expect(said.text).not.toContain('    at ');
    }
    const left = fs.readdirSync(directory, { recursive: true }) as string[];
    expect(left.filter((name) => name.endsWith('.sock'))).toEqual([]);
  });
});

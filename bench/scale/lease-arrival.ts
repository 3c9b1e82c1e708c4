import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exec } from '../../src/base/exec.js';
import { inside } from '../../src/lab/namespace.js';
import { waitFor } from '../../src/lab/wait.js';
import { fetchStatus } from '../../src/operator/status-client.js';
import { cpuOf } from '../harness/cpu.js';
import { builtFile, project } from '../harness/paths.js';
import { Helper } from '../harness/process.js';
import type { Values } from '../harness/results.js';
import { Pair } from '../network/pair.js';

const ENDPOINT = 'http://127.0.0.1:2379';
/** How often the daemon is asked whether it is done; the answer is not finer than that. */
const ASK_MS = 50;

/** What the hosts have: IPv4, or both. */
export type Families = 'ipv4' | 'dual';

/** A host with a real etcd and a real daemon, to which the leases of other hosts arrive. */
export class LeaseArrival {
  readonly #pair: Pair;
  readonly #folder: string;
  #etcd: Helper | null = null;

  private constructor(pair: Pair, folder: string) {
    this.#pair = pair;
    this.#folder = folder;
  }

  static async unavailable(): Promise<string> {
    try {
      await exec(['etcd', '--version']);
      return '';
    } catch {
      return 'etcd is not installed';
    }
  }

  static async up(): Promise<LeaseArrival> {
    const folder = await mkdtemp(join(tmpdir(), 'tweed-bench-'));
    const arrival = new LeaseArrival(await Pair.up('scale', 1472), folder);
    try {
      const [{ host }] = arrival.#pair.ends;
      const peer = 'http://127.0.0.1:2380';
      const argv = ['etcd', '--name', 'bench', '--data-dir', join(folder, 'etcd'), '--unsafe-no-fsync'];
      argv.push('--listen-client-urls', ENDPOINT, '--advertise-client-urls', ENDPOINT, '--listen-peer-urls', peer);
      argv.push('--initial-advertise-peer-urls', peer, '--initial-cluster', `bench=${peer}`);
      arrival.#etcd = await Helper.start(host, argv, /ready to serve client requests|serving insecure client requests/);
    } catch (error) {
      await arrival.down();
      throw error;
    }
    return arrival;
  }

  /** Starts a daemon, lets so many leases appear, and waits until it has applied the last one. */
  async measure(leases: number, families: Families): Promise<Values> {
    const [{ host }] = this.#pair.ends;
    const runFolder = await mkdtemp(join(this.#folder, 'run-'));
    await this.#fill('reset', 0, families);
    const argv = [process.execPath, join(project, 'dist/cli/tweed.cjs'), 'run', '--iface=eth0'];
    argv.push(
      `--etcd-endpoints=${ENDPOINT}`,
      `--run-dir=${runFolder}`,
      `--subnet-file=${join(runFolder, 'subnet.env')}`,
    );
    const daemon = await Helper.start(host, argv, /"tweed starts"/);
    try {
      const known = (count: number) =>
        waitFor(
          `the daemon to know ${count} hosts`,
          async () => {
            try {
              return (await fetchStatus(runFolder)).backend?.peers.length === count;
            } catch {
              return false; // not listening yet
            }
          },
          { timeoutMs: 60_000, everyMs: ASK_MS },
        );
      await known(0);
      const before = { cpu: await cpuOf([daemon.pid]), resident: await residentBytes(daemon.pid) };
      const written = await this.#fill('fill', leases, families);
      await known(leases);
      const seconds = (Date.now() - written.startedAt) / 1000;
      const after = { cpu: await cpuOf([daemon.pid]), resident: await residentBytes(daemon.pid) };
      return {
        leases,
        seconds,
        writeSeconds: written.seconds,
        cpuSeconds: after.cpu.total - before.cpu.total,
        residentBefore: before.resident,
        residentAfter: after.resident,
        kilobytesPerLease: (after.resident - before.resident) / leases / 1024,
      };
    } finally {
      await daemon.stop();
    }
  }

  /** Writes to etcd from inside the host's namespace. */
  async #fill(
    task: 'reset' | 'fill',
    leases: number,
    families: Families,
  ): Promise<{ startedAt: number; seconds: number }> {
    const [{ host }] = this.#pair.ends;
    const argv = [process.execPath, builtFile('tools/fill-registry'), task, ENDPOINT, String(leases), families];
    const { stdout } = await exec(inside(host, argv), { timeoutMs: 60_000 });
    return JSON.parse(stdout) as { startedAt: number; seconds: number };
  }

  async down(): Promise<void> {
    await this.#etcd?.stop();
    await this.#pair.down();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** Resident memory of a process, shared pages included. */
async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
}

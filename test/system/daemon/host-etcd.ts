import { type ChildProcess, spawn } from 'node:child_process';
import { exec } from '../../../src/base/exec.js';
import { eventually, type TestHost } from './hosts.js';

/** An etcd of the first host's own, where flannel looks by default: port 2379 of the loopback interface. */
export class HostEtcd {
  #process: ChildProcess | null = null;

  constructor(
    private readonly host: TestHost,
    private readonly directory: string,
    private readonly flags: readonly string[] = [],
  ) {}

  /** Where daemons of all hosts find it. */
  get endpoint(): string {
    return `http://${this.host.address}:2379`;
  }

  start(): void {
    const url = ['http://127.0.0.1:2379', `http://${this.host.address}:2379`].join(',');
    const flags = [
      '--data-dir',
      this.directory,
      '--listen-client-urls',
      url,
      '--advertise-client-urls',
      url,
      ...this.flags,
    ];
    const argv = [
      'netns',
      'exec',
      this.host.namespace,
      'etcd',
      ...flags,
      '--listen-peer-urls',
      'http://127.0.0.1:2380',
    ];
    this.#process = spawn('ip', argv, { stdio: 'ignore' });
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }

  /** Runs etcdctl against it, and again until it answers. */
  async control(...args: readonly string[]): Promise<string> {
    const argv = ['ip', 'netns', 'exec', this.host.namespace, 'env', 'ETCDCTL_API=3', 'etcdctl', ...args];
    let output = '';
    await eventually(async () => {
      output = (await exec(argv)).stdout;
    });
    return output;
  }
}

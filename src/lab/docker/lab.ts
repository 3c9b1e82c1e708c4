/** The compose lab, from the outside: docker-compose.yml brought up, tested and taken down. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { ExecOptions, ExecResult } from '../../base/exec.js';
import { PROGRAM_LIMITS, parseJson } from '../../base/json.js';
import { packageFile } from '../../base/package.js';
import type { DaemonStatus } from '../../observe/status.js';
import { DEFAULT_SUBNET_FILE } from '../../subnet/subnet-env.js';
import { type HostSubnet, parseSubnetFile } from '../containers.js';
import { LabError, LabPlaceError } from '../errors.js';
import { formatPlace, parsePlace } from '../names.js';
import { namespaceFolder } from '../namespace.js';
import { ProbedLab } from '../probed-lab.js';
import { waitFor } from '../wait.js';
import { composeCommand, docker, requireEngine } from './engine.js';

const projectFolder = fileURLToPath(packageFile('.'));
/** What the image calls the built project. */
const probeProgram = '/opt/tweed/dist/lab/probe/agent.cjs';
/** docker-compose.yml gives it to every host. */
const hostLabel = 'tweed.lab=host';
const readyPatienceMs = 60_000;

/** Docker's name of a host's container, or of etcd's. */
export function dockerName(service: string): string {
  return `tweed-${service}`;
}

export class DockerLab extends ProbedLab {
  private constructor(
    /** By the names of their services, also those that are not running. */
    readonly hosts: readonly string[],
  ) {
    super();
  }

  /** Builds the image and starts everything, or puts back what is missing, and waits until every host knows the others. */
  static async up(): Promise<DockerLab> {
    await requireEngine();
    await compose(['up', '--detach', '--build']);
    const lab = await DockerLab.find();
    await lab.waitForPeers();
    return lab;
  }

  /** The lab that is up. @throws LabError when none is. */
  static async find(): Promise<DockerLab> {
    await requireEngine();
    const { stdout } = await docker(['ps', '--all', '--filter', `label=${hostLabel}`, '--format', '{{.Names}}']);
    const hosts = stdout.split('\n').filter(Boolean).sort();
    if (hosts.length === 0) {
      throw new LabError('LAB_NOT_UP', 'the compose lab is not up; start it with `npm run lab:docker -- up`');
    }
    return new DockerLab(hosts.map((name) => name.slice(dockerName('').length)));
  }

  /** Removes containers and network, also of a lab that came up by half. The image stays for the next time. */
  static async down(): Promise<void> {
    await requireEngine();
    await compose(['down', '--volumes', '--remove-orphans', '--timeout', '2']);
  }

  /** Runs a program in `host1`, in the container `host1/c1` behind it, or in `etcd`, and waits for its end. */
  exec(place: string, argv: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    return docker(inPlace(place, argv), options);
  }

  /** As `exec`, with the streams that the options say; with `terminal` it can be typed to. */
  spawn(place: string, argv: readonly string[], options: SpawnOptions, terminal = false): ChildProcess {
    return spawn('docker', inPlace(place, argv, terminal ? ['--interactive', '--tty'] : ['--interactive']), options);
  }

  protected startProbe(place: string): ChildProcess {
    return this.spawn(place, ['node', probeProgram], { stdio: 'pipe' });
  }

  async *layout() {
    for (const host of this.hosts) {
      const names = await this.containers(host);
      const containers = names.map((name, index) => ({ name, number: index + 1 }));
      yield { host, subnet: await this.subnet(host), containers };
    }
  }

  /** The names of the containers behind a host, in the order of their addresses. */
  async containers(host: string): Promise<string[]> {
    const names = (await this.exec(host, ['ls', namespaceFolder])).stdout.split('\n').filter(Boolean);
    return names.sort((a, b) => Number(a.slice(1)) - Number(b.slice(1)));
  }

  async subnet(host: string): Promise<HostSubnet> {
    return parseSubnetFile((await this.exec(host, ['cat', DEFAULT_SUBNET_FILE])).stdout);
  }

  /** What the daemon of a host says of itself; null when none answers. */
  async status(host: string): Promise<DaemonStatus | null> {
    const { status, stdout } = await this.exec(host, ['tweed', 'status', '--json'], { tolerate: true });
    return status === 0 ? (parseJson(stdout, PROGRAM_LIMITS) as DaemonStatus) : null;
  }

  /** Waits until the daemon of every host is ready and knows all the other hosts. */
  async waitForPeers(): Promise<void> {
    for (const host of this.hosts) {
      const ready = async () => {
        const status = await this.status(host);
        return status?.ready && status.backend?.peers.length === this.hosts.length - 1;
      };
      await waitFor(`${host} to know the other hosts`, ready, { timeoutMs: readyPatienceMs, everyMs: 200 });
    }
  }
}

function inPlace(placeText: string, argv: readonly string[], options: readonly string[] = []): string[] {
  const place = parsePlace(placeText);
  if (place.kind === 'etcd') return ['exec', ...options, dockerName('etcd'), ...argv];
  if (place.kind === 'host') return ['exec', ...options, dockerName(place.host), ...argv];
  if (place.kind === 'container') {
    const enter = ['nsenter', `--net=${namespaceFolder}/${place.container}`];
    return ['exec', ...options, dockerName(place.host), ...enter, ...argv];
  }
  throw new LabPlaceError(`the compose lab has no ${formatPlace(place)}; name host1, host1/c1 or etcd`);
}

/** Compose's own words go to the user: a build takes its time, and is worth looking at. */
async function compose(words: readonly string[]): Promise<void> {
  const [program, ...first] = await composeCommand();
  const child = spawn(program, [...first, ...words], { cwd: projectFolder, stdio: 'inherit' });
  const [status] = (await once(child, 'close')) as [number | null];
  if (status !== 0) throw new LabError('LAB_COMPOSE', `compose ${words[0]} failed; its messages are above`);
}

import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../base/errors.js';
import type { ExecOptions, ExecResult } from '../base/exec.js';
import { cleanEnvironment } from '../base/exec.js';
import { packageFile } from '../base/package.js';
import { plural } from '../base/plural.js';
import { readSubnet, startDaemon } from './daemon.js';
import { takeDown } from './down.js';
import { forEach } from './each.js';
import { LabError, LabOptionError, LabPlaceError } from './errors.js';
import { labWords } from './hints.js';
import { allExist, type HostSettings, isWhole, makeHost, planHost, removeHost, withAddress } from './hosts.js';
import { belongsTo, formatPlace, hostName, namespaceOf, type Publication, parsePlace } from './names.js';
import { createNamespaces, execInside, haveIpv6, listNamespaces, readIfThere, spawnInside } from './namespace.js';
import { completeOptions, firstDifference, type LabOptions, mostHosts, reasonForIpv4Alone } from './options.js';
import { attachContainers, bridgedContainersOf, fixedNamespaces, networkOwner } from './places.js';
import { probeCommand } from './probe/client.js';
import { ProbedLab } from './probed-lab.js';
import { livePid, stopRecorded } from './process.js';
import { type Progress, quietProgress } from './progress.js';
import { publish, unpublish } from './publish.js';
import { putNetworkConfig, registryEndpoint, startEtcd } from './registry.js';
import { type HostState, isRoots, LabFiles, type LabState } from './state.js';
import { type LabStatus, statusOf, waitForPeers } from './status.js';
import { isInstalled, requirePrograms, requireRoot } from './tools.js';
import { changeHostAddress, makeUnderlay } from './underlay.js';

const packageFolder = fileURLToPath(packageFile('.'));

export interface UpSettings {
  readonly progress?: Progress;
  /** Aborted: what was made so far is taken down, and `up` rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Several hosts on one machine, each a network namespace with a real daemon and containers behind it.
 *
 * A lab outlives the program that made it; `Lab.find` gets hold of it again. Commands and tests use the same methods.
 */
export class Lab extends ProbedLab {
  readonly files: LabFiles;
  #state: LabState;

  private constructor(files: LabFiles, state: LabState) {
    super();
    this.files = files;
    this.#state = state;
  }

  get name(): string {
    return this.#state.options.name;
  }

  get options(): LabOptions {
    return this.#state.options;
  }

  get hosts(): readonly HostState[] {
    return this.#state.hosts;
  }

  get publications(): readonly Publication[] {
    return this.#state.publications;
  }

  /** Makes a lab, or repairs the one of that name. When it fails, nothing is left but the logs. */
  static async up(given: Partial<LabOptions>, { progress = quietProgress, signal }: UpSettings = {}): Promise<Lab> {
    requireRoot();
    await requirePrograms(['ip', 'tee', 'unshare']);
    const hasIpv6 = await haveIpv6();
    const ipv4Alone = reasonForIpv4Alone(given, hasIpv6);
    const registry = given.registry ?? (await usualRegistry());
    const options = completeOptions({ ...given, registry }, ipv4Alone === null ? 'dual' : 'ipv4');
    if (options.registry === 'etcd') await requirePrograms(['etcd']);
    const files = await LabFiles.of(options.name);
    return files.locked(async () => {
      const state = await files.load();
      if (state?.complete) {
        const difference = firstDifference(state.options, given);
        if (difference !== null) {
          const [is, wanted] = [state.options, given].map((options) => JSON.stringify(options[difference]));
          throw new LabError(
            'LAB_DIFFERENT',
            `lab ${options.name} is up with other options (${difference}: ${is}, and not ${wanted}); take it down first (${labWords(options.name, 'down')}), or give this one another name (--name)`,
          );
        }
        if (state.program !== undefined && state.program !== packageFolder) {
          throw new LabError(
            'LAB_FOREIGN',
            `lab ${options.name} is up, with daemons of the tweed in ${state.program}, and this one is in ${packageFolder}; take that lab down first (${labWords(options.name, 'down')}), or give this one another name (--name)`,
          );
        }
        const lab = new Lab(files, state);
        if (await allExist(fixedNamespaces(lab.name))) {
          await lab.#repair(progress, signal);
          return lab;
        }
      }
      const leftovers = (await listNamespaces()).some((namespace) => belongsTo(options.name, namespace));
      if (state !== null || leftovers) {
        await progress.step('remove what is left of an earlier lab', () => takeDown(options.name, files));
      }
      if (!hasIpv6 && [options.ipFamilies, options.underlayFamily].some((choice) => choice !== 'ipv4')) {
        throw new LabOptionError(
          'this machine has no IPv6; leave --ip-families and --underlay-family out, or enable it (ipv6.disable, ipv6.disable_ipv6)',
        );
      }
      if (ipv4Alone !== null) await progress.step(`IPv4 alone: ${ipv4Alone}`, async () => {});
      const fresh: LabState = { options, hosts: [], publications: [], program: packageFolder, complete: false };
      const lab = new Lab(files, fresh);
      await lab.#build(progress, signal);
      return lab;
    });
  }

  /** The lab of that name, which must be up. */
  static async find(name: string): Promise<Lab> {
    const files = await LabFiles.of(name);
    const state = await files.load();
    if (state === null || !state.complete) {
      if (await isRoots(name)) {
        throw new LabError('LAB_NOT_ROOT', `the lab ${name} is root’s; run this as root, such as by sudo`);
      }
      throw new LabError('LAB_NOT_UP', `no lab ${name} is up; start it with \`${labWords(name, 'up')}\``);
    }
    return new Lab(files, state);
  }

  /** The log of a host's daemon or of etcd, also of a lab that did not come up. */
  static async readLog(name: string, host: string): Promise<string> {
    const path = (await LabFiles.of(name)).log(formatPlace(parsePlace(host)));
    const text = await readIfThere(path);
    if (text === null)
      throw new LabError('LAB_LOG', `there is no ${path}; see \`${labWords(name, 'status')}\` for what there is`);
    return text;
  }

  /** Removes the lab of that name, also half of one. Returns false when there was nothing. */
  static async down(name: string): Promise<boolean> {
    requireRoot();
    const files = await LabFiles.of(name);
    return files.locked(() => takeDown(name, files));
  }

  async down(): Promise<void> {
    await this.close();
    await Lab.down(this.name);
  }

  /** The namespace of a place such as `host1`, `host1/c2`, `internet`, `etcd` or `switch`. */
  namespace(placeText: string): string {
    const place = parsePlace(placeText);
    if (place.kind === 'host' || place.kind === 'container') {
      const host = this.host(place.host);
      if (place.kind === 'container' && !host.containers.includes(place.container)) {
        const names = host.containers.join(', ') || 'none';
        throw new LabPlaceError(`${host.name} has no container ${place.container}; it has ${names}`);
      }
    }
    return namespaceOf(this.name, place);
  }

  host(name: string): HostState {
    const host = this.hosts.find((candidate) => candidate.name === name);
    if (host !== undefined) return host;
    const names = this.hosts.map((candidate) => candidate.name).join(', ');
    throw new LabPlaceError(`lab ${this.name} has no ${name}; it has ${names}`);
  }

  /** The place whose network it is: for a container that shares one, its host or another container. */
  networkOf(placeText: string): string {
    const place = parsePlace(placeText);
    return place.kind === 'container' ? networkOwner(this.options, place.host, place.container) : formatPlace(place);
  }

  /** What makes `tweed` there be this one, and find the place's own daemon and registry. */
  environment(placeText: string): Record<string, string> {
    const place = parsePlace(placeText);
    const path = `${fileURLToPath(packageFile('bin'))}:${process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin'}`;
    const registry = { PATH: path, FLANNELD_ETCD_ENDPOINTS: registryEndpoint(this.options, this.files) };
    if (place.kind !== 'host') return registry;
    return {
      ...registry,
      TWEED_RUN_DIR: this.files.runFolder(place.host),
      FLANNELD_IFACE: 'eth0',
      FLANNELD_SUBNET_FILE: this.files.subnetFile(place.host),
    };
  }

  /** Runs a program in a place and waits for its end. */
  exec(place: string, argv: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    return execInside(this.namespace(place), argv, options);
  }

  spawn(place: string, argv: readonly string[], options: SpawnOptions): ChildProcess {
    return spawnInside(this.namespace(place), argv, options);
  }

  protected startProbe(place: string): ChildProcess {
    return this.spawn(place, probeCommand(), { stdio: 'pipe', env: cleanEnvironment() });
  }

  async *layout() {
    for (const host of this.hosts) {
      const containers = bridgedContainersOf(this.options, host);
      yield { host: host.name, subnet: await readSubnet(this.files, host.name), containers };
    }
  }

  status(): Promise<LabStatus> {
    return statusOf(this.#state, this.files);
  }

  /** Starts the daemon of a host unless it is running, and gives the containers what its subnet file says. */
  async startDaemon(host: string, settings: UpSettings = {}): Promise<void> {
    await startDaemon(this.options, this.files, this.host(host), settings.signal);
    await attachContainers(this.options, this.files, this.host(host));
  }

  /** Ends the daemon of a host. Its containers stay. */
  stopDaemon(host: string, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    return stopRecorded(this.files.record(this.host(host).name), { signal });
  }

  /** The pid of a host's daemon; null while it is not running. */
  async daemonPid(host: string): Promise<number | null> {
    return livePid(this.files.record(this.host(host).name));
  }

  startEtcd(): Promise<void> {
    return startEtcd(this.options, this.files);
  }

  stopEtcd(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    return stopRecorded(this.files.record('etcd'), { signal });
  }

  etcdPid(): Promise<number | null> {
    return livePid(this.files.record('etcd'));
  }

  /** Waits until the daemon of every host knows all the other hosts. */
  waitForPeers(settings: UpSettings = {}): Promise<void> {
    return waitForPeers(this.#state, this.files, settings.signal);
  }

  /** Plugs one more host into the switch and starts its daemon. */
  addHost(settings: HostSettings = {}): Promise<HostState> {
    return this.files.locked(async () => {
      const used = new Set(this.hosts.map(({ name }) => name));
      let number = 1;
      while (used.has(hostName(number))) number++;
      if (number > mostHosts) throw new LabOptionError(`a lab has at most ${mostHosts} hosts; remove one first`);
      const host = planHost(this.options, number, settings);
      await this.#saveHosts([...this.hosts, host]);
      await makeHost(this.options, host);
      await this.startDaemon(host.name);
      return host;
    });
  }

  /** Pulls a host's plug: its daemon and containers vanish without a word. */
  removeHost(name: string): Promise<void> {
    return this.files.locked(async () => {
      const host = this.host(name);
      await removeHost(this.options, host);
      await rm(this.files.runFolder(name), { recursive: true, force: true });
      const publications = this.#state.publications.filter((one) => one.host !== name && one.targetHost !== name);
      await this.#save({ hosts: this.hosts.filter((other) => other !== host), publications });
    });
  }

  /** Gives a host another address on the underlay, of the family that the new one has. Its daemon is not told. */
  changeAddress(name: string, address: string): Promise<void> {
    return this.files.locked(async () => {
      const host = this.host(name);
      const addresses = withAddress(host.addresses, address);
      await changeHostAddress(this.options, name, host.addresses, addresses);
      const changed = { ...host, address: addresses[0] ?? address, addresses };
      await this.#saveHosts(this.hosts.map((other) => (other === host ? changed : other)));
    });
  }

  /** Makes a container's port reachable by its host's address, as `docker run -p` does. */
  publish(publication: Publication): Promise<void> {
    return this.files.locked(async () => {
      const others = this.#state.publications.filter((other) => !isSamePort(other, publication));
      if (
        others.length < this.#state.publications.length &&
        !this.#state.publications.some((one) => isEqual(one, publication))
      ) {
        const { host, hostPort } = publication;
        throw new LabError('LAB_PUBLISHED', `${host}:${hostPort} is published already; unpublish it first`);
      }
      await publish(this.#state, this.files, publication);
      await this.#save({ publications: [...others, publication] });
    });
  }

  /** Takes a published port back. @throws LabError when it is none */
  unpublish(host: string, hostPort: number): Promise<void> {
    return this.files.locked(async () => {
      const publication = this.#state.publications.find((one) => one.host === host && one.hostPort === hostPort);
      if (publication === undefined) {
        const names = this.#state.publications.map((one) => `${one.host}:${one.hostPort}`).join(', ') || 'none';
        throw new LabError('LAB_PUBLISH', `${host}:${hostPort} is not published; published: ${names}`);
      }
      await unpublish(this.#state, this.files, publication);
      await this.#save({ publications: this.#state.publications.filter((one) => one !== publication) });
    });
  }

  async #build(progress: Progress, signal: AbortSignal | undefined): Promise<void> {
    const { options, files } = this;
    const hosts = Array.from({ length: options.hosts }, (_, index) => planHost(options, index + 1));
    const step: Progress['step'] = (title, work, note) => {
      signal?.throwIfAborted();
      return progress.step(title, work, note);
    };
    try {
      await files.make();
      await this.#saveHosts(hosts);
      await step('switch, internet and etcd', async () => {
        await createNamespaces(fixedNamespaces(this.name));
        await makeUnderlay(options);
      });
      await step(plural(hosts.length, 'host'), () => forEach(hosts, (host) => makeHost(options, host), signal));
      await step(`registry (${options.registry}) and network configuration`, async () => {
        if (options.registry === 'etcd') await this.startEtcd();
        await putNetworkConfig(options, files);
      });
      await step('daemons and containers', () =>
        forEach(hosts, ({ name }) => this.startDaemon(name, { signal }), signal),
      );
      await step('every host knows the others', () => this.waitForPeers({ signal }));
      await this.#save({ complete: true });
    } catch (error) {
      const interrupted = signal?.aborted === true;
      await progress.step('take down what was made', () => takeDown(this.name, files, { keepLogs: !interrupted }));
      if (interrupted) throw signal.reason;
      throw new LabError(
        'LAB_UP',
        `lab ${this.name} did not come up: ${messageOf(error)}\nThe logs are in ${files.logs}`,
        {
          cause: error,
        },
      );
    }
  }

  /** Puts back what is missing: hosts whose namespaces or bridge are gone, daemons and etcd that ended. */
  async #repair(progress: Progress, signal: AbortSignal | undefined): Promise<void> {
    const repaired: string[] = [];
    await progress.step(
      `lab ${this.name} is up already`,
      async () => {
        if (this.options.registry === 'etcd' && (await this.etcdPid()) === null) {
          await this.startEtcd();
          repaired.push('etcd');
        }
        for (const host of this.hosts) {
          if (await isWhole(this.options, this.files, host)) continue;
          await removeHost(this.options, host);
          await makeHost(this.options, host);
          repaired.push(`${host.name}'s namespaces`);
        }
        for (const { name } of this.hosts) {
          if ((await this.daemonPid(name)) === null) repaired.push(`${name}'s daemon`);
          await this.startDaemon(name, { signal });
        }
        for (const publication of this.#state.publications) await publish(this.#state, this.files, publication);
        await this.waitForPeers({ signal });
      },
      () => (repaired.length === 0 ? 'nothing to do' : `started again: ${repaired.join(', ')}`),
    );
  }

  #saveHosts(hosts: readonly HostState[]): Promise<void> {
    return this.#save({ hosts });
  }

  async #save(change: Partial<LabState>): Promise<void> {
    this.#state = { ...this.#state, ...change };
    await this.files.save(this.#state);
  }
}

function isSamePort(a: Publication, b: Publication): boolean {
  return a.host === b.host && a.hostPort === b.hostPort;
}

function isEqual(a: Publication, b: Publication): boolean {
  const targets = a.targetHost === b.targetHost && a.targetContainer === b.targetContainer;
  return isSamePort(a, b) && targets && a.targetPort === b.targetPort;
}

/** Where etcd is not installed, leases are kept in a directory, which needs no server. */
async function usualRegistry(): Promise<LabOptions['registry']> {
  return (await isInstalled('etcd')) ? 'etcd' : 'directory';
}

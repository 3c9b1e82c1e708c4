import { messageOf } from '../base/errors.js';
import { formatIpv4 } from '../base/ipv4.js';
import { type Logger, logState } from '../base/log.js';
import { unforeseen } from '../base/unforeseen.js';
import type { Inheritance } from '../linux/inheritance.js';
import { Services } from '../observe/services.js';
import type { DaemonPhase, DaemonStatus } from '../observe/status.js';
import { composeStatus } from '../observe/status-compose.js';
import { StateOutdatedError } from '../subnet/errors.js';
import { TWIN_WARNING } from '../subnet/leases/own-lease.js';
import type { PreviousSubnetEnv } from '../subnet/subnet-env.js';
import { ControlLoop } from './control-loop.js';
import { type Giver, type HandOverServer, TakenOverError } from './hand-over.js';
import type { ServiceManager } from './notify.js';
import type { DaemonOptions } from './options.js';
import type { DaemonParts, Leases, RegistryHandle, UnderlayChoice } from './parts.js';

/** So long a forwarder may stand still with work to do before it counts as stuck. */
const STUCK_SECONDS = 10;

/**
 * The windows are opened when it forwards, or after so long, when it has to wait for something: on a busy machine a start takes half
 * a second, and Node's HTTP server is not to be loaded in the midst of it.
 */
const SERVICES_DELAY_MS = 1000;

/** What the steps of the shut-down may take: systemd and people expect it to be over in 2 s. */
const STEP_LIMITS_MS = { overlay: 1000, registry: 600, services: 100 } as const;

/**
 * One host's daemon: what is around the control loop. Coming up: windows → underlay → registry → loop; going down in the
 * opposite order.
 */
export class Daemon {
  readonly #startedAt = Date.now();
  readonly #options: DaemonOptions;
  readonly #parts: DaemonParts;
  readonly #manager: ServiceManager;
  readonly #log: Logger;
  readonly #services: Services;
  #phase: DaemonPhase = 'starting';
  #detail = '';
  readonly #inheritance: Inheritance;
  #handOverServer: HandOverServer | null = null;
  #windows: Promise<void> | null = null;
  #registry: RegistryHandle | null = null;
  #leases: Leases | null = null;
  #loop: ControlLoop | null = null;

  constructor(options: DaemonOptions, parts: DaemonParts, manager: ServiceManager, log: Logger) {
    this.#options = options;
    this.#parts = parts;
    this.#manager = manager;
    this.#log = log;
    this.#services = new Services(options, () => this.status(), log);
    this.#inheritance = parts.inherit();
    manager.watchOver(() => {
      const seconds = this.#loop?.overlay.stuckFor ?? 0;
      return seconds < STUCK_SECONDS ? '' : `a forwarder has not moved for ${seconds} s`;
    });
  }

  status(): DaemonStatus {
    const leases = this.#leases?.status() ?? null;
    const expiresAt = leases?.lease?.expiresAt ?? null;
    const overlay = this.#loop?.overlay;
    const expired = expiresAt !== null && expiresAt <= Date.now();
    return composeStatus({
      startedAt: this.#startedAt,
      phase: this.#phase,
      detail: expired ? 'the lease has expired: the other hosts have no route to this one' : this.#detail,
      ready: this.#phase === 'running' && (overlay?.ready ?? false) && !expired,
      logLevel: this.#log.level,
      underlay: this.#loop?.choice.underlay ?? null,
      endpoints: this.#options.registry.endpoints,
      leases,
      backend: overlay?.status() ?? null,
      warnings: [...(leases?.hasTwin ? [TWIN_WARNING] : []), ...(this.#loop?.warnings ?? [])],
      repairs: overlay?.repairs ?? 0,
      unforeseenErrors: unforeseen.count,
      log: logState(this.#log),
    });
  }

  /**
   * Runs until `stop` is aborted, then takes everything down and returns.
   *
   * @throws TweedError when the host cannot join the overlay, or has to leave it; everything is taken down first.
   */
  async run(stop: AbortSignal): Promise<void> {
    let left = false;
    // the daemon whose place this one is to take has the sockets yet
    const soon = this.#options.takeOver ? undefined : setTimeout(() => this.#services.start(), SERVICES_DELAY_MS);
    try {
      await this.#live(stop);
    } catch (error) {
      left = error instanceof TakenOverError;
      if (!stop.aborted && !left) throw error; // otherwise it is what the stop interrupted
    } finally {
      clearTimeout(soon);
      await this.#takeDown(left);
    }
  }

  async #live(stop: AbortSignal): Promise<never> {
    const options = this.#options;
    const parts = this.#parts;
    const log = this.#log;
    const past = await parts.readSubnetFile(options.subnetFile);
    for (const warning of past.warnings) log.warn(warning);
    const choice = await parts.findUnderlay(options.underlay);
    this.#logChoice(choice);
    stop.throwIfAborted();
    this.#registry = await parts.openRegistry(options, log);
    for (;;) {
      try {
        return await this.#serve(this.#registry, choice, past, stop);
      } catch (error) {
        if (!(error instanceof StateOutdatedError) || stop.aborted) throw error;
      }
      await this.#loop?.stop(this.#inheritance);
      await this.#leases?.close();
    }
  }

  /** @throws StateOutdatedError when it was begun with a configuration that is no longer the one */
  #serve(registry: RegistryHandle, choice: UnderlayChoice, past: PreviousSubnetEnv, stop: AbortSignal): Promise<never> {
    const options = this.#options;
    const parts = this.#parts;
    const log = this.#log;
    const leases = registry.createLeases(choice, past);
    this.#leases = leases;
    this.#phase = 'waiting';
    const onProgress = (detail: string) => {
      this.#detail = detail;
      this.#manager.status(detail);
    };
    const onForwarding = () => {
      log.info(sinceStart(), 'forwarding');
      this.#windows ??= this.#openWindows();
    };
    const inheritance = this.#inheritance;
    const store = this.#manager;
    const onUp = () => {
      this.#phase = 'running';
      this.#manager.ready();
      log.info(sinceStart(), 'ready');
    };
    const context = { options, parts, leases, past, log, inheritance, store, onProgress, onForwarding, onUp };
    this.#loop = new ControlLoop(context, choice);
    return this.#loop.run(stop);
  }

  async #openWindows(): Promise<void> {
    await this.#services.start();
    const giver: Giver = {
      serving: () => this.#loop?.serving ?? '',
      descriptors: () => this.#loop?.overlay.descriptors ?? new Map(),
      vessels: () => this.#loop?.overlay.vessels ?? [],
      refusal: () => {
        if (this.#manager.present) return 'a service manager runs it; let that restart it';
        return this.#phase === 'stopping' ? 'it is stopping' : '';
      },
      onTaken: (vessels) => this.#loop?.leave(vessels),
    };
    const { statusSocket } = this.#services;
    try {
      if (statusSocket === null) throw new Error('it has no status socket');
      this.#handOverServer = await this.#parts.offerHandOver(statusSocket, giver, this.#log);
    } catch (error) {
      this.#log.warn(`no daemon can take over from this one: ${messageOf(error)}`);
    }
  }

  /** In its order, but no step keeps the next one from its turn, or the process from ending: what hangs ends with it. */
  async #takeDown(left: boolean): Promise<void> {
    const { cleanUpOnExit, lease } = this.#options;
    this.#phase = 'stopping';
    this.#manager.stopping();
    if (cleanUpOnExit) this.#manager.keep(new Map());
    await this.#step('leaving the overlay', STEP_LIMITS_MS.overlay, async () => {
      await this.#loop?.stop();
      if (left) this.#handOverServer?.stopped(); // whoever took over need not wait for the rest
    });
    this.#inheritance.close();
    await this.#step('leaving the registry', STEP_LIMITS_MS.registry, async () => {
      await (lease.releaseOnExit && !left ? this.#leases?.release() : this.#leases?.close());
      await this.#registry?.close();
    });
    await this.#step('closing the status socket', STEP_LIMITS_MS.services, async () => {
      await this.#windows;
      await this.#services.stop();
      await this.#handOverServer?.close(); // at last: whoever took over waits for it
    });
  }

  async #step(what: string, limitMs: number, work: () => Promise<unknown>): Promise<void> {
    const limit = new AbortController();
    const late = async () => {
      await this.#parts.clock.sleep(limitMs, limit.signal);
      if (!limit.signal.aborted) throw new Error(`took longer than ${limitMs} ms and was cut short`);
    };
    try {
      await Promise.race([work(), late()]);
    } catch (error) {
      this.#log.warn(`${what}: ${messageOf(error)}`);
    } finally {
      limit.abort();
    }
  }

  #logChoice({ underlay, publicIp, reason }: UnderlayChoice): void {
    const { name, mtu } = underlay;
    const fields = {
      interface: name,
      address: formatIpv4(underlay.address),
      mtu,
      publicIp: formatIpv4(publicIp),
      reason,
    };
    this.#log.info({ ...fields, ...sinceStart() }, 'underlay chosen');
  }
}

/** What the start has cost up to now: wall-clock and processor time since this process was made, in milliseconds. */
function sinceStart(): { readonly sinceStartMs: number; readonly processorMs: number } {
  const { user, system } = process.cpuUsage();
  return { sinceStartMs: Math.round(performance.now()), processorMs: Math.round((user + system) / 1000) };
}

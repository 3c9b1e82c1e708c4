import { setTimeout as sleep } from 'node:timers/promises';
import { formatIpv4 } from '../base/ipv4.js';
import type { Logger } from '../base/log.js';
import { Standing } from '../base/standing.js';
import { Services } from '../observe/services.js';
import type { DaemonPhase, DaemonStatus } from '../observe/status.js';
import { composeStatus } from '../observe/status-compose.js';
import { Membership } from './membership.js';
import type { ServiceManager } from './notify.js';
import type { DaemonOptions } from './options.js';
import type { DaemonParts, Leases, RegistryHandle, UnderlayChoice } from './parts.js';

/** What the shut-down may take before it is cut short: systemd and people expect 2 s at most. */
const SHUTDOWN_LIMIT_MS = 1700;

/**
 * One host's daemon.
 *
 * Coming up: lock → underlay → registry → configuration → lease → backend → peers, rules and subnet file → ready. When the
 * host's public address changes, it leaves the overlay and joins it again under the new one, with the same subnet.
 */
export class Daemon {
  readonly #startedAt = Date.now();
  readonly #services: Services;
  readonly #complaints: Standing;
  #phase: DaemonPhase = 'starting';
  #detail = '';
  #registry: RegistryHandle | null = null;
  #membership: Membership | null = null;

  constructor(
    private readonly options: DaemonOptions,
    private readonly parts: DaemonParts,
    private readonly manager: ServiceManager,
    private readonly log: Logger,
  ) {
    this.#services = new Services(options, () => this.status(), log);
    this.#complaints = new Standing(log);
  }

  status(): DaemonStatus {
    const { overlay, leases, underlay } = this.#membership ?? { overlay: null, leases: null, underlay: null };
    return composeStatus({
      startedAt: this.#startedAt,
      phase: this.#phase,
      detail: this.#detail,
      ready: this.#phase === 'running' && (overlay?.ready ?? false),
      logLevel: this.log.level,
      underlay: underlay?.underlay ?? null,
      endpoints: this.options.registry.endpoints,
      leases: leases?.status() ?? null,
      backend: overlay?.status() ?? null,
      repairs: overlay?.repairs ?? 0,
    });
  }

  /**
   * Runs until `stop` is aborted, then takes everything down and returns.
   *
   * @throws TweedError when the host cannot join the overlay, or has to leave it; everything is taken down first.
   */
  async run(stop: AbortSignal): Promise<void> {
    const lock = await this.parts.lockDevice(this.options.udp.deviceName);
    try {
      await this.#services.start();
      await this.#live(stop);
    } catch (error) {
      if (!stop.aborted) throw error; // otherwise it is what the stop interrupted
    } finally {
      await this.#takeDown();
      await lock.release();
    }
  }

  async #live(stop: AbortSignal): Promise<never> {
    const { options, parts, log } = this;
    const past = await parts.readSubnetFile(options.subnetFile);
    for (const warning of past.warnings) log.warn(warning);
    let choice = await parts.findUnderlay(options.underlay);
    this.#registry = await parts.openRegistry(options, log);
    let subnet = past.subnet;
    let former: Leases | null = null;
    for (;;) {
      this.#logChoice(choice);
      stop.throwIfAborted();
      const leases = this.#registry.createLeases(choice.publicIp, subnet);
      this.#phase = 'waiting';
      this.#membership = new Membership(options, parts, leases, past, choice, log, {
        onProgress: (detail) => {
          this.#detail = detail;
          this.manager.status(detail);
        },
        onUp: () => {
          this.#phase = 'running';
          this.manager.ready();
          log.info('ready');
        },
      });
      choice = await this.#membership.live(stop, former);
      await this.#membership.stop();
      log.warn(
        { from: formatIpv4(leases.status().lease?.attributes.publicIp ?? 0) },
        'the public address has changed: joining again',
      );
      subnet = leases.status().lease?.subnet ?? subnet;
      await leases.close();
      former = leases;
    }
  }

  /** In its order, but nothing of it may keep the process from ending: what hangs ends with the process. */
  async #takeDown(): Promise<void> {
    this.#phase = 'stopping';
    this.manager.stopping();
    const leases = this.#membership?.leases;
    const work = async () => {
      await this.#membership?.stop();
      await this.#complaints.once('leaving the registry', async () => {
        await (this.options.lease.releaseOnExit ? leases?.release() : leases?.close());
        await this.#registry?.close();
      });
      await this.#complaints.once('closing the status socket', () => this.#services.stop());
    };
    const limit = new AbortController();
    const cut = sleep(SHUTDOWN_LIMIT_MS, 'cut', { signal: limit.signal }).catch(() => 'done');
    if ((await Promise.race([work(), cut])) === 'cut') {
      this.log.warn(`shut-down took longer than ${SHUTDOWN_LIMIT_MS} ms and was cut short`);
    }
    limit.abort();
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
    this.log.info(fields, 'underlay chosen');
  }
}

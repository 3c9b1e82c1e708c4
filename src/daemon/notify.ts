import { messageOf } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { unforeseen } from '../base/unforeseen.js';

/** A timer of Node's that is longer than this rings at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

const READY = 'READY=1';
const RETRY_MS = 1000;

/** Sends one datagram to the service manager, with copies of descriptors in it. @throws when it cannot */
export type SendNotification = (address: string, message: string, descriptors?: readonly number[]) => void;

/**
 * The service manager's side of the daemon, in the protocol of sd_notify(3): READY=1, STATUS=…, STOPPING=1, and
 * WATCHDOG=1 twice per period as long as the control thread turns and what it watches over is well. It also keeps the
 * descriptors on which forwarding depends while no process runs (FDSTORE=1), and passes them to the next one. Without a
 * service manager nothing happens.
 */
export class ServiceManager {
  readonly #address: string;
  readonly #watchdog: NodeJS.Timeout | null = null;
  #complaint: () => string = () => '';
  /** Names of the descriptors that it keeps, those of a former process at first; several may have one name. */
  #kept: readonly string[];

  constructor(
    environment: Readonly<Record<string, string | undefined>>,
    private readonly send: SendNotification,
    private readonly log: Logger,
  ) {
    this.#address = environment.NOTIFY_SOCKET ?? '';
    this.#kept = (environment.LISTEN_FDNAMES ?? '').split(':').filter((name) => name !== '');
    const microseconds = /^\d{1,12}$/.test(environment.WATCHDOG_USEC ?? '') ? Number(environment.WATCHDOG_USEC) : 0;
    const forUs = environment.WATCHDOG_PID === undefined || Number(environment.WATCHDOG_PID) === process.pid;
    if (this.#address !== '' && microseconds > 0 && forUs) {
      this.#watchdog = setInterval(
        () => unforeseen.guard('the watchdog', () => this.#beat()),
        Math.max(1, Math.min(microseconds / 2000, LONGEST_TIMER_MS)),
      );
      this.#watchdog.unref();
    }
  }

  /** @param complaint what keeps the watchdog from being told that all is well; empty when it is */
  watchOver(complaint: () => string): void {
    this.#complaint = complaint;
  }

  ready(): void {
    this.#tell(READY);
  }

  /** Is there one, which would start another process in this one's place? */
  get present(): boolean {
    return this.#address !== '';
  }

  /** Has these kept from now on, and nothing that was kept before. */
  keep(descriptors: ReadonlyMap<string, number>): void {
    // one of the same name may be another one by now
    this.#forget((name) => descriptors.has(name));
    this.follow(descriptors);
  }

  /** The same, where what has the name of one that is kept is that one. What is new is kept before anything else goes. */
  follow(descriptors: ReadonlyMap<string, number>): void {
    const known = new Set(this.#kept);
    const news = [...descriptors].filter(([name]) => !known.has(name));
    // without polling: the manager would drop one with an error on it; whoever gets it finds out whether it can be used
    for (const [name, fd] of news) this.#tell(`FDSTORE=1\nFDNAME=${name}\nFDPOLL=0`, [fd]);
    this.#forget((name) => !descriptors.has(name));
    this.#kept = [...descriptors.keys()];
  }

  /** No longer keeps those by these names. */
  #forget(named: (name: string) => boolean): void {
    for (const name of new Set(this.#kept.filter(named))) this.#tell(`FDSTOREREMOVE=1\nFDNAME=${name}`);
    this.#kept = this.#kept.filter((name) => !named(name));
  }

  stopping(): void {
    if (this.#watchdog !== null) clearInterval(this.#watchdog);
    this.#tell('STOPPING=1');
  }

  /** One line about what the daemon does, shown by `systemctl status`. */
  status(text: string): void {
    this.#tell(`STATUS=${text.replaceAll('\n', ' ')}`);
  }

  #beat(): void {
    const complaint = this.#complaint();
    if (complaint === '') this.#tell('WATCHDOG=1');
    else this.log.error(`the watchdog is not told that all is well: ${complaint}`);
  }

  #tell(message: string, descriptors?: readonly number[]): void {
    if (this.#address === '') return;
    try {
      this.send(this.#address, message, descriptors);
    } catch (error) {
      this.log.debug(`service manager: ${messageOf(error)}`);
      if (message === READY) setTimeout(() => this.ready(), RETRY_MS).unref(); // it would wait for this for ever
    }
  }
}

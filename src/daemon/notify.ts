import { messageOf } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { unforeseen } from '../base/unforeseen.js';

/** A timer of Node's that is longer than this rings at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

const READY = 'READY=1';
const RETRY_MS = 1000;

/** Sends one datagram to the service manager. @throws when it cannot */
export type SendNotification = (address: string, message: string) => void;

/**
 * The service manager's side of the daemon, in the protocol of sd_notify(3): READY=1, STATUS=…, STOPPING=1, and
 * WATCHDOG=1 twice per period as long as the control thread turns and what it watches over is well. Without a service
 * manager nothing happens.
 */
export class ServiceManager {
  readonly #address: string;
  readonly #watchdog: NodeJS.Timeout | null = null;
  #complaint: () => string = () => '';

  constructor(
    environment: Readonly<Record<string, string | undefined>>,
    private readonly send: SendNotification,
    private readonly log: Logger,
  ) {
    this.#address = environment.NOTIFY_SOCKET ?? '';
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

  #tell(message: string): void {
    if (this.#address === '') return;
    try {
      this.send(this.#address, message);
    } catch (error) {
      this.log.debug(`service manager: ${messageOf(error)}`);
      if (message === READY) setTimeout(() => this.ready(), RETRY_MS).unref(); // it would wait for this for ever
    }
  }
}

import { TweedError } from '../base/errors.js';

/** What went wrong with a lab. The code is stable, the message ends with what to do. */
export class LabError extends TweedError {}

/** An option, or a variable of the environment, cannot be used. */
export class LabOptionError extends LabError {
  constructor(message: string) {
    super('LAB_OPTION', message);
  }
}

/** A word that names no place of the lab. */
export class LabPlaceError extends LabError {
  constructor(message: string) {
    super('LAB_PLACE', message);
  }
}

/** The daemon of a host did not do what it should. */
export class LabDaemonError extends LabError {
  /** @param log the path of its log, and what can be said of it */
  constructor(host: string, what: string, log: string) {
    super('LAB_DAEMON', `the daemon of ${host} ${what}; read ${log}`);
  }
}

/** What was waited for did not come. */
export class LabTimeoutError extends LabError {
  constructor(what: string, milliseconds: number) {
    super('LAB_TIMEOUT', `gave up waiting for ${what} after ${milliseconds / 1000} s; look at the logs`);
  }
}

/** Another command is changing the same lab. */
export class LabBusyError extends LabError {
  constructor(pid: number | null) {
    super('LAB_BUSY', `another command (pid ${pid ?? 'unknown'}) is changing this lab; wait for its end and try again`);
  }
}

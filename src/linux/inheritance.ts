/**
 * Descriptors that live on when what made them has ended: a former process, which a service manager kept them for or which
 * handed them over, or a former backend of this process.
 */
import { F_SETFD, FD_CLOEXEC } from './constants.js';
import { control } from './libc.js';

/** The first descriptor that a service manager passes on (sd_listen_fds(3)). */
const LISTEN_FDS_START = 3;

/** Owns what is put into it until somebody takes it. */
export class Inheritance {
  readonly #descriptors = new Map<string, number>();
  readonly #close: (fd: number) => void;
  readonly #waiting: (() => void)[] = [];
  #shared = false;

  constructor(close: (fd: number) => void = (fd) => void control.close(fd)) {
    this.#close = close;
  }

  /** Another process works with the same device and socket yet: nothing of theirs may be removed. */
  get shared(): boolean {
    return this.#shared;
  }

  set shared(shared: boolean) {
    this.#shared = shared;
    if (!shared) for (const tell of this.#waiting.splice(0)) tell();
  }

  /** Settles when no other process works with them. */
  owned(): Promise<void> {
    return this.#shared ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve();
  }

  get empty(): boolean {
    return this.#descriptors.size === 0;
  }

  /** One that has the name already is closed. */
  put(name: string, fd: number): void {
    const former = this.take(name);
    if (former !== null) this.#close(former);
    this.#descriptors.set(name, fd);
  }

  /** It is the caller's then. Null when there is none of that name. */
  take(name: string): number | null {
    const fd = this.#descriptors.get(name) ?? null;
    this.#descriptors.delete(name);
    return fd;
  }

  /** As `take`, all whose names begin so. */
  takeAll(start: string): ReadonlyMap<string, number> {
    const taken = [...this.#descriptors].filter(([name]) => name.startsWith(start));
    for (const [name] of taken) this.#descriptors.delete(name);
    return new Map(taken);
  }

  /** Closes what nobody took. */
  close(): void {
    for (const fd of this.#descriptors.values()) this.#close(fd);
    this.#descriptors.clear();
  }
}

/** The descriptors that the service manager has passed on to this process. */
export function passedOn(
  { LISTEN_PID, LISTEN_FDS }: Readonly<Record<string, string | undefined>>,
  pid = process.pid,
): readonly number[] {
  if (Number(LISTEN_PID) !== pid || !/^\d{1,4}$/.test(LISTEN_FDS ?? '')) return [];
  return Array.from({ length: Number(LISTEN_FDS) }, (_, i) => LISTEN_FDS_START + i);
}

/**
 * What the service manager kept of a former process, by the protocol of sd_listen_fds_with_names(3).
 *
 * @param environment is cleared of it, so that no program that we start takes it for its own
 */
export function inheritedFrom(environment: Record<string, string | undefined>, pid = process.pid): Inheritance {
  const descriptors = passedOn(environment, pid);
  const names = (environment.LISTEN_FDNAMES ?? '').split(':');
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete environment[name];
  const inheritance = new Inheritance();
  for (const [i, fd] of descriptors.entries()) {
    control.fcntl(fd, F_SETFD, FD_CLOEXEC);
    inheritance.put(names[i] ?? '', fd);
  }
  return inheritance;
}

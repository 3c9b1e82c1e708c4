import { constants } from 'node:fs';
import { access, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { makeDirectory } from '../base/atomic-file.js';
import { JsonError, PROGRAM_LIMITS, parseJson } from '../base/json.js';
import { membersOf } from '../base/members.js';
import { type FileLock, LockHeldError, lockFile } from '../linux/file-lock.js';
import { LabBusyError, LabError } from './errors.js';
import type { Publication } from './names.js';
import { readIfThere } from './namespace.js';
import type { LabOptions } from './options.js';

export interface HostState {
  readonly name: string;
  /** Its address on the underlay: the IPv4 one, and only where it has none, the other one. */
  readonly address: string;
  /** All it has there, one of each family. */
  readonly addresses: readonly string[];
  readonly containers: readonly string[];
  /** In place of the lab's own, where this host's daemon has others. */
  readonly daemonArgs?: readonly string[];
}

/** What is kept of a lab between two commands. Processes have records of their own beside it. */
export interface LabState {
  readonly options: LabOptions;
  readonly hosts: readonly HostState[];
  readonly publications: readonly Publication[];
  /** The folder of the tweed that made it: its daemons run what was built there. Labs of older versions have none. */
  readonly program?: string;
  /** False while `up` is at work: what a crash leaves then is taken down, not repaired. */
  readonly complete: boolean;
}

/** Where root keeps labs; others have theirs, which cannot be up, in the folder for temporary files. */
const ROOTS_FOLDER = '/run/tweed-lab';

/** Whether root has a lab of that name, which only root can look at and change. */
export async function isRoots(name: string, folder = ROOTS_FOLDER): Promise<boolean> {
  if ((await stateRoot()) === folder) return false;
  return access(join(folder, name)).then(
    () => true,
    () => false,
  );
}

async function stateRoot(): Promise<string> {
  try {
    await access('/run', constants.W_OK);
    return ROOTS_FOLDER;
  } catch {
    return join(tmpdir(), 'tweed-lab');
  }
}

/** The folders and files of one lab. */
export class LabFiles {
  private constructor(readonly folder: string) {}

  static async of(name: string): Promise<LabFiles> {
    return new LabFiles(join(await stateRoot(), name));
  }

  get etcdData(): string {
    return join(this.folder, 'etcd');
  }

  get directoryRegistry(): string {
    return join(this.folder, 'registry');
  }

  get logs(): string {
    return join(this.folder, 'logs');
  }

  log(process: string): string {
    return join(this.logs, `${process}.log`);
  }

  record(process: string): string {
    return join(this.folder, 'run', `${process}.pid`);
  }

  /** The run directory of one host's daemon: its status socket and what it keeps for a restart. */
  runFolder(host: string): string {
    return join(this.folder, 'run', host);
  }

  subnetFile(host: string): string {
    return join(this.runFolder(host), 'subnet.env');
  }

  async make(): Promise<void> {
    await makeDirectory(this.logs);
    await makeDirectory(join(this.folder, 'run'));
  }

  async load(): Promise<LabState | null> {
    const text = await readIfThere(join(this.folder, 'lab.json'));
    return text === null ? null : parseLabState(text);
  }

  async save(state: LabState): Promise<void> {
    const path = join(this.folder, 'lab.json');
    await writeFile(`${path}.new`, `${JSON.stringify(state, null, 2)}\n`);
    await rename(`${path}.new`, path);
  }

  async exist(): Promise<boolean> {
    return (await readdir(this.folder).catch(() => null)) !== null;
  }

  /** Removes everything, the logs only when they are not to be read any more. */
  async remove({ keepLogs }: { keepLogs: boolean }): Promise<void> {
    if (!keepLogs) {
      await rm(this.folder, { recursive: true, force: true });
      return;
    }
    for (const entry of await readdir(this.folder).catch(() => [])) {
      if (entry !== 'logs') await rm(join(this.folder, entry), { recursive: true, force: true });
    }
  }

  /** Keeps two commands from changing the same lab at once, while the work is done. @throws LabBusyError */
  async locked<Result>(work: () => Promise<Result>): Promise<Result> {
    await makeDirectory(dirname(this.folder));
    const lock = this.#lock();
    try {
      return await work();
    } finally {
      lock.release();
    }
  }

  #lock(): FileLock {
    try {
      return lockFile(`${this.folder}.lock`);
    } catch (error) {
      throw error instanceof LockHeldError ? new LabBusyError(error.holder) : error;
    }
  }
}

/** @throws LabError when somebody changed the file, or another version wrote it */
export function parseLabState(text: string): LabState {
  try {
    const state = membersOf(parseJson(text, PROGRAM_LIMITS));
    const lists = [state?.get('hosts'), state?.get('publications')];
    const whole = lists.every((list) => Array.isArray(list) && list.every((entry) => membersOf(entry) !== null));
    const hosts = (whole ? lists[0] : []) as readonly object[];
    const addressed = hosts.every((host) => Array.isArray(membersOf(host)?.get('addresses')));
    if (state === null || membersOf(state.get('options')) === null || !whole || !addressed) {
      throw new JsonError('it lacks options, hosts or publications');
    }
    return Object.fromEntries(state) as unknown as LabState;
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new LabError('LAB_STATE', `what is kept of this lab cannot be used: ${error.problem}; take the lab down`);
  }
}

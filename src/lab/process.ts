import { spawn } from 'node:child_process';
import { open, readFile, rm, writeFile } from 'node:fs/promises';
import { cleanEnvironment } from '../base/exec.js';
import { PROGRAM_LIMITS, parseJson } from '../base/json.js';
import { LabTimeoutError } from './errors.js';
import { inside, readIfThere } from './namespace.js';
import { waitFor } from './wait.js';

/** A process that outlives the command that started it. Its start time tells it from a later one with the same pid. */
export interface ProcessRecord {
  readonly pid: number;
  /** Clock ticks since boot, /proc/PID/stat field 22. */
  readonly startTicks: string;
}

/** Starts a program inside a namespace, detached, its output appended to a log; its record is written to `recordPath`. */
export async function startDetached(
  namespace: string,
  argv: readonly string[],
  logPath: string,
  recordPath: string,
): Promise<ProcessRecord> {
  const log = await open(logPath, 'a');
  try {
    const [program, ...args] = inside(namespace, argv);
    const child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      env: cleanEnvironment(),
    });
    await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
    child.unref();
    const record = await recordOf(child.pid as number);
    await writeFile(recordPath, JSON.stringify(record));
    return record;
  } finally {
    await log.close();
  }
}

/** In place of a start time, for a process that ended before it could be asked for. */
const ended = 'ended';

async function recordOf(pid: number): Promise<ProcessRecord> {
  return { pid, startTicks: (await readStat(pid))?.startTicks ?? ended };
}

async function readRecord(recordPath: string): Promise<ProcessRecord | null> {
  const text = await readIfThere(recordPath);
  return text === null || text === '' ? null : (parseJson(text, PROGRAM_LIMITS) as ProcessRecord);
}

/** Is the recorded process still there? A zombie is not: it only waits for its parent. */
export async function isAlive(record: ProcessRecord): Promise<boolean> {
  const stat = await readStat(record.pid);
  return stat !== null && stat.startTicks === record.startTicks && stat.state !== 'Z';
}

/** The pid of the recorded process; null while it is not running. */
export async function livePid(recordPath: string): Promise<number | null> {
  const record = await readRecord(recordPath);
  return record !== null && (await isAlive(record)) ? record.pid : null;
}

/** Sends a signal to the recorded process and waits until it is gone; SIGKILL follows when it takes too long. */
export async function stopRecorded(
  recordPath: string,
  { signal = 'SIGTERM' as NodeJS.Signals, patienceMs = 5_000 } = {},
): Promise<void> {
  const record = await readRecord(recordPath);
  if (record !== null && (await isAlive(record))) {
    send(record.pid, signal);
    await awaitEnd(record, patienceMs);
  }
  await rm(recordPath, { force: true });
}

async function awaitEnd(record: ProcessRecord, patienceMs: number): Promise<void> {
  const gone = async () => !(await isAlive(record));
  try {
    await waitFor(`process ${record.pid} to end`, gone, { timeoutMs: patienceMs, everyMs: 5 });
  } catch (error) {
    if (!(error instanceof LabTimeoutError)) throw error;
    send(record.pid, 'SIGKILL');
    await waitFor(`process ${record.pid} to end after SIGKILL`, gone, { timeoutMs: 10_000, everyMs: 5 });
  }
}

/** Ends processes by pid: a signal to all, SIGKILL to those that are left after `patienceMs`. */
export async function endProcesses(
  pids: readonly number[],
  { signal = 'SIGTERM' as NodeJS.Signals, patienceMs = 3_000 } = {},
): Promise<void> {
  const records = (await Promise.all(pids.map(recordOf))).filter(({ startTicks }) => startTicks !== ended);
  for (const { pid } of records) send(pid, signal);
  for (const { pid } of records) send(pid, 'SIGCONT'); // a stopped process keeps its SIGTERM waiting
  await Promise.all(records.map((record) => awaitEnd(record, patienceMs)));
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // it ended by itself
  }
}

/** Field 2 of /proc/PID/stat may hold spaces and brackets, so the fields are counted after its last bracket. */
async function readStat(pid: number): Promise<{ state: string; startTicks: string } | null> {
  let text: string;
  try {
    text = await readFile(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return null; // ENOENT, or ESRCH when it ends while being read
  }
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0], startTicks: fields[19] };
}

import { readdir, readFile } from 'node:fs/promises';

/** CPU time, in seconds. */
export interface CpuTime {
  /** Both together, as the scheduler measured it. */
  readonly total: number;
  /** Split by the timer tick, scaled by the kernel so that the sum is right (sched/cputime.c). */
  readonly user: number;
  readonly system: number;
}

/** USER_HZ: what /proc counts in, whatever the kernel's own tick is (proc(5)). 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

/**
 * What a set of processes has used, all threads together.
 *
 * The total comes from /proc/PID/task/TID/schedstat, in nanoseconds; where the kernel lacks it (CONFIG_SCHED_INFO), from
 * the ticks of /proc/PID/stat. A thread that has ended takes its nanoseconds along, so only compare readings of processes
 * whose threads live on.
 */
export async function cpuOf(pids: readonly number[]): Promise<CpuTime> {
  const times = await Promise.all(pids.map(cpuOfProcess));
  return times.reduce(
    (sum, time) => ({
      total: sum.total + time.total,
      user: sum.user + time.user,
      system: sum.system + time.system,
    }),
    { total: 0, user: 0, system: 0 },
  );
}

async function cpuOfProcess(pid: number): Promise<CpuTime> {
  const fields = statFields(await readFile(`/proc/${pid}/stat`, 'utf8'));
  const user = Number(fields[11]) / TICKS_PER_SECOND;
  const system = Number(fields[12]) / TICKS_PER_SECOND;
  const exact = await schedulerTime(pid);
  return { total: exact ?? user + system, user, system };
}

/** Field 2 of /proc/PID/stat may hold spaces and brackets, so the fields are counted after its last bracket. */
function statFields(text: string): string[] {
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

async function schedulerTime(pid: number): Promise<number | null> {
  let nanoseconds = 0;
  try {
    for (const thread of await readdir(`/proc/${pid}/task`)) {
      nanoseconds += Number((await readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8')).split(' ')[0]);
    }
  } catch {
    return null;
  }
  return nanoseconds / 1e9;
}

export function subtractCpu(after: CpuTime, before: CpuTime): CpuTime {
  return {
    total: after.total - before.total,
    user: after.user - before.user,
    system: after.system - before.system,
  };
}

/** Voluntary and involuntary context switches of all threads of some processes. */
export async function contextSwitches(pids: readonly number[]): Promise<number> {
  let count = 0;
  for (const pid of pids) {
    for (const thread of await readdir(`/proc/${pid}/task`)) {
      const text = await readFile(`/proc/${pid}/task/${thread}/status`, 'utf8');
      for (const [, number] of text.matchAll(/ctxt_switches:\t(\d+)/g)) count += Number(number);
    }
  }
  return count;
}

/** What the whole machine has done since it started, in seconds summed over its CPUs. */
export interface MachineTime {
  /** Anything but idle, waiting for a disk, and time that the hypervisor gave to others. */
  readonly busy: number;
  /** Time that the hypervisor gave to other machines while this one wanted to run. */
  readonly stolen: number;
}

export async function machineTime(): Promise<MachineTime> {
  const [line] = (await readFile('/proc/stat', 'utf8')).split('\n');
  const [user, nice, system, , , interrupt, softInterrupt, stolen] = (line as string)
    .trim()
    .split(/\s+/)
    .slice(1)
    .map((ticks) => Number(ticks) / TICKS_PER_SECOND) as [number, ...number[]];
  return {
    busy: user + (nice ?? 0) + (system ?? 0) + (interrupt ?? 0) + (softInterrupt ?? 0),
    stolen: stolen ?? 0,
  };
}

/** Parent of all kernel threads; what they do is done for us as well as for others. */
const KTHREADD = 2;

/**
 * CPU time, in seconds, of all processes that are neither ours nor the kernel's: what disturbs a measurement. A process
 * that came and went between two readings is missing, unless its parent is still there.
 */
export async function cpuOfOthers(): Promise<number> {
  const processes = new Map<number, { parent: number; ticks: number }>();
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const fields = statFields(await readFile(`/proc/${entry}/stat`, 'utf8'));
      const ticks = fields.slice(11, 15).reduce((sum, text) => sum + Number(text), 0);
      processes.set(Number(entry), { parent: Number(fields[1]), ticks });
    } catch {} // ended meanwhile
  }
  let others = 0;
  for (const [pid, { ticks }] of processes) if (!descendsFrom(processes, pid, [process.pid, KTHREADD])) others += ticks;
  return others / TICKS_PER_SECOND;
}

function descendsFrom(
  processes: ReadonlyMap<number, { readonly parent: number }>,
  pid: number,
  ancestors: readonly number[],
): boolean {
  for (let at: number | undefined = pid; at !== undefined && at > 0; at = processes.get(at)?.parent) {
    if (ancestors.includes(at)) return true;
  }
  return false;
}

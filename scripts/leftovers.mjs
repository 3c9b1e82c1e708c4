// leftovers.mjs save FILE, and later leftovers.mjs check FILE: ends with 1 and says what was left behind on this machine.
import { readFileSync, writeFileSync } from 'node:fs';
import { compareSnapshots, listProcesses, takeSnapshot } from './support/host-snapshot.mjs';
import { project, say } from './support/run.mjs';

const [action, file] = process.argv.slice(2);
if (file === undefined || (action !== 'save' && action !== 'check')) {
  say('usage: leftovers.mjs save|check FILE');
  process.exitCode = 2;
} else if (action === 'save') {
  writeFileSync(file, JSON.stringify({ snapshot: takeSnapshot(), processes: listProcesses(project) }));
} else {
  const before = JSON.parse(readFileSync(file, 'utf8'));
  const known = new Set([...before.processes.map(({ pid }) => pid), ...ancestors()]);
  const left = compareSnapshots(before.snapshot, takeSnapshot());
  for (const { pid, command } of listProcesses(project)) if (!known.has(pid)) left.push(`+ process ${pid}: ${command}`);
  for (const line of left) say(`left behind: ${line}`);
  if (left.length > 0) process.exitCode = 1;
}

/** Ourselves, and those who started us. */
function ancestors() {
  const pids = [process.pid];
  for (let pid = process.ppid; pid > 0; ) {
    pids.push(pid);
    pid = Number(/^PPid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
  }
  return pids;
}

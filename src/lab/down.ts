import { belongsTo } from './names.js';
import { deleteNamespaces, listNamespaces, processesInside } from './namespace.js';
import { endProcesses } from './process.js';
import type { LabFiles } from './state.js';

/**
 * Removes every trace of a lab by its namespaces' names, so that it needs no state: also after a crash.
 *
 * @returns false when there was nothing to remove.
 */
export async function takeDown(name: string, files: LabFiles, { keepLogs = false } = {}): Promise<boolean> {
  const namespaces = (await listNamespaces()).filter((namespace) => belongsTo(name, namespace));
  // Daemons end in order on SIGTERM; the namespace of a process that stays would stay too, and its devices.
  for (let pids = await processesInside(namespaces); pids.length > 0; pids = await processesInside(namespaces)) {
    await endProcesses(pids);
  }
  await deleteNamespaces(namespaces);
  const hadFiles = await files.exist();
  await files.remove({ keepLogs });
  return namespaces.length > 0 || hadFiles;
}

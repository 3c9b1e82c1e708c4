/** Docker's own commands, as the user has them. */
import { ExecError, type ExecOptions, type ExecResult, exec } from '../../base/exec.js';
import { LabError } from '../errors.js';

/** Runs `docker` and waits for its end. */
export function docker(words: readonly string[], options?: ExecOptions): Promise<ExecResult> {
  return exec(['docker', ...words], options);
}

/** @throws LabError when no engine answers. */
export async function requireEngine(): Promise<void> {
  const answer = await ask(['docker', 'version', '--format', '{{.Server.Version}}']);
  if (answer?.status === 0) return;
  const reason = answer?.stderr.trim() ?? 'docker is not installed';
  throw new LabError(
    'LAB_ENGINE',
    `no Docker engine answers: ${reason}; install and start it, and join the group docker or become root`,
  );
}

/** The words that run compose: the plugin of today, or the program of old. @throws LabError when there is neither. */
export async function composeCommand(): Promise<string[]> {
  for (const command of [['docker', 'compose'], ['docker-compose']]) {
    if ((await ask([...command, 'version']))?.status === 0) return command;
  }
  throw new LabError(
    'LAB_COMPOSE',
    'neither `docker compose` nor `docker-compose` is there; install docker-compose-plugin or docker-compose',
  );
}

/** Null when the program is not installed. */
async function ask(argv: readonly string[]): Promise<ExecResult | null> {
  try {
    return await exec(argv, { tolerate: true });
  } catch (error) {
    if (error instanceof ExecError && error.result === null) return null;
    throw error;
  }
}

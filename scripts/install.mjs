// install.mjs PURPOSE…: only the set-up that the commands for these purposes do first; one of lab, test, bench, docker, kernels.
import { SetupError } from './support/run.mjs';
import { main, setupProject, setupRoot } from './support/setup.mjs';

const known = ['lab', 'test', 'bench', 'docker', 'kernels'];

await main(async (purposes) => {
  const unknown = purposes.find((purpose) => !known.includes(purpose));
  if (unknown !== undefined) throw new SetupError(`no purpose ${unknown}; there are ${known.join(', ')}`);
  await setupProject();
  for (const purpose of purposes) await setupRoot(purpose);
  return 0;
});

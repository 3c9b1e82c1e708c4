// install.mjs lab|test|bench: only the set-up that `npm run lab`, `npm test` and `npm run bench` do first.
import { main, setupProject, setupRoot } from './support/setup.mjs';

await main(async ([purpose]) => {
  await setupProject();
  await setupRoot(['lab', 'bench'].includes(purpose) ? purpose : 'test');
  return 0;
});

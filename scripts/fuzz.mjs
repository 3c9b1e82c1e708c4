// npm run fuzz [-- --seconds=N --seed=N FILES…]: every fuzz of test/fuzz for so many seconds, from a seed that is printed and
// gives the same cases again. Millions of cases in a night; the unit tests run some thousand of them.
import { parseArgs } from 'node:util';
import { npm, run, say } from './support/run.mjs';
import { main } from './support/setup.mjs';

await main(async (args) => {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { seconds: { type: 'string', default: '60' }, seed: { type: 'string' } },
  });
  const seed = values.seed ?? String(Math.floor(Math.random() * 2 ** 31));
  say(`fuzz: ${values.seconds} s for each, npm run fuzz -- --seconds=${values.seconds} --seed=${seed}`);
  const env = { ...process.env, TWEED_FUZZ_SECONDS: values.seconds, TWEED_FUZZ_SEED: seed };
  return run(
    npm('run', '--silent', 'unit', '--', '--reporter=verbose', ...(positionals.length ? positionals : ['test/fuzz'])),
    { env },
  );
});

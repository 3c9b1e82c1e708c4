// npm run lab: sets up what is due, then brings a lab up, tests it and shows it. With arguments: tweed lab ARGUMENTS.
import { join } from 'node:path';
import { project, run, say } from './support/run.mjs';
import { main, setupProject, setupRoot } from './support/setup.mjs';

await main(async (args) => {
  await setupProject();
  const root = await setupRoot('lab');
  const lab = (...words) => run([...root, process.execPath, join(project, 'dist/cli/tweed.js'), 'lab', ...words]);
  if (args.length > 0) return lab(...args);
  let status = await lab('up');
  if (status !== 0) return status;
  say('\nEvery container to every other one:');
  status = await lab('test');
  say('');
  await lab('status');
  say(`
look around:   npm run lab -- exec host1/c1 -- ip route          (a host: host1; others: internet, etcd, switch)
watch packets: npm run lab -- exec host1 -- tcpdump -ni flannel0 (on the wire: -ni eth0 udp port 8285)
take it down:  npm run lab -- down`);
  return status;
});

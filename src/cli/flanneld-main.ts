import { runDaemonCommand } from './commands/run.js';
import { endWith } from './exit.js';

// A drop-in for the binary of this name: the same options, nothing else.
void endWith('flanneld', () => runDaemonCommand('flanneld', process.argv.slice(2)));

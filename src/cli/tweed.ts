#!/usr/bin/env node
import { holdSignals } from '../base/first-signals.js';
import { leaveRemovedDirectory } from '../base/working-directory.js';

holdSignals(process.argv[2] === 'run');
leaveRemovedDirectory();
void import('./tweed-main.js');

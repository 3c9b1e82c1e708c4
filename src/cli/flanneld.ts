#!/usr/bin/env node
import { holdSignals } from '../base/first-signals.js';
import { leaveRemovedDirectory } from '../base/working-directory.js';

holdSignals(true);
leaveRemovedDirectory();
void import('./flanneld-main.js');

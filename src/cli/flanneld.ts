#!/usr/bin/env node
import { holdSignals } from '../base/first-signals.js';

holdSignals(true);
void import('./flanneld-main.js');

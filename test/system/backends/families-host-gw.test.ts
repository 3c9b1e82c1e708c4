import { testFamilies } from './family-labs.js';

testFamilies('host-gw');

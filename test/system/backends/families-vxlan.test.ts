import { testFamilies } from './family-labs.js';

testFamilies('vxlan');

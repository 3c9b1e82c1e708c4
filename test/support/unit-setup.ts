import { assertBuilt } from './built.js';

/** Before any unit test: the checksum kernel, which is WebAssembly and the only thing that all of src/ takes from dist/. */
export default function setup(): void {
  assertBuilt(/^src\/encap\/wire\/wasm\//);
}

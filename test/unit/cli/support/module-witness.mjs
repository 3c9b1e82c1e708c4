// With node --import: writes a line to standard error for every module that is loaded.
import { writeSync } from 'node:fs';
import Module, { register } from 'node:module';
import { pathToFileURL } from 'node:url';

const hooks = `
  import { writeSync } from 'node:fs';
  export async function load(url, context, next) {
    writeSync(2, 'loads ' + url + '\\n');
    return next(url, context);
  }
`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);

for (const [extension, compile] of Object.entries(Module._extensions)) {
  Module._extensions[extension] = (module, filename) => {
    writeSync(2, `loads ${pathToFileURL(filename)}\n`);
    return compile(module, filename);
  };
}

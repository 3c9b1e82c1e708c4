/**
 * Node, yargs and the threads of the data path ask for the working directory, and fail where it was removed meanwhile, as a
 * build's or a package's was under an operator's shell.
 */
export function leaveRemovedDirectory(): void {
  try {
    process.cwd();
  } catch {
    process.chdir('/');
    process.stderr.write('tweed: the working directory was removed; going on in /\n');
  }
}

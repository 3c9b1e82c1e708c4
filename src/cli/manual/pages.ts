/** A command, as far as its pages need it. */
export interface Documented {
  readonly name: string;
  readonly summary: string;
  /** Its help text, or that of what is below it. @param words its name first */
  readonly help: (words: readonly string[]) => Promise<string>;
}

/** What a command's own help text says, taken apart. The manual page and the shell's completion are made of these. */
export interface HelpPage {
  /** The command's words behind `tweed`: `lab`, `up`. */
  readonly words: readonly string[];
  readonly summary: string;
  /** The whole text. */
  readonly text: string;
  /** Names of options, without dashes. */
  readonly options: readonly string[];
  readonly subcommands: readonly { readonly name: string; readonly summary: string }[];
}

/** A help text taken apart. Reads what `flagLines` and yargs write. */
export function parseHelp(words: readonly string[], summary: string, text: string): HelpPage {
  const options: string[] = [];
  const subcommands: { name: string; summary: string }[] = [];
  const prefix = `  tweed ${words.join(' ')} `;
  for (const line of text.split('\n')) {
    const option = /^ {2,6}(?:-\w, )?--?([a-z][\w-]+)/.exec(line);
    if (option !== null) options.push(option[1]);
    if (!line.startsWith(prefix)) continue;
    const [signature, ...about] = line.slice(prefix.length).split(/ {2,}/);
    const name = /^[a-z][a-z-]*/.exec(signature)?.[0];
    if (name !== undefined) subcommands.push({ name, summary: about.join(' ').trim() });
  }
  return { words, summary, text, options, subcommands };
}

/** The pages of all commands and of what is below them, in the order of the help text. */
export async function collectPages(commands: readonly Documented[]): Promise<HelpPage[]> {
  const pages: HelpPage[] = [];
  for (const { name, summary, help } of commands) {
    const page = parseHelp([name], summary, await help([name]));
    pages.push(page);
    for (const below of page.subcommands) {
      const words = [name, below.name];
      pages.push(parseHelp(words, below.summary, await help(words)));
    }
  }
  return pages;
}

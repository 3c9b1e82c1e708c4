import type { HelpPage } from './pages.js';

/** The completion for bash: commands, what is below them, and their options; anything else is the name of a file. */
export function bashCompletion(pages: readonly HelpPage[]): string {
  const topics = pages.filter(({ words }) => words.length === 1).map(({ words }) => words[0]);
  const below = pages
    .filter(({ subcommands }) => subcommands.length > 0)
    .map(({ words, subcommands }) => entry(words, subcommands.map(({ name }) => name).join(' ')));
  const options = pages.map(({ words, options }) => entry(words, options.map((name) => `--${name}`).join(' ')));
  return `# Completion of tweed's command line for bash. Made of the commands' own options; tweed completion prints it.
_tweed() {
  local current=\${COMP_WORDS[COMP_CWORD]} path=tweed index
  local -A below=(
    [tweed]='${topics.join(' ')} --help --version'
${below.join('\n')}
  )
  local -A options=(
${options.join('\n')}
  )
  for ((index = 1; index < COMP_CWORD; index++)); do
    [[ \${COMP_WORDS[index]} == -- ]] && return
    [[ \${COMP_WORDS[index]} != -* && " \${below[$path]-} " == *" \${COMP_WORDS[index]} "* ]] && path+=" \${COMP_WORDS[index]}"
  done
  local words=\${below[$path]-}
  if [[ $current == -* && $path != tweed ]]; then
    words=\${options[$path]-}
    # flanneld's options are written with one dash as well
    [[ $path == 'tweed run' && $current != --* ]] && words=\${words//--/-}
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o bashdefault -o default -F _tweed tweed
`;
}

function entry(words: readonly string[], value: string): string {
  return `    ['tweed ${words.join(' ')}']='${value}'`;
}

/** One HTML file that needs nothing else: styles, tables and drawn plots inside, no script, no network. */

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

export interface TableContent {
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Words and what they mean. */
export function glossary(words: readonly (readonly [word: string, meaning: string])[]): string {
  const items = words.map(([word, meaning]) => `<dt>${escapeHtml(word)}</dt><dd>${escapeHtml(meaning)}</dd>`);
  return `<dl class="words">${items.join('')}</dl>`;
}

/** A table whose first column is text and whose others are numbers. It scrolls sideways where it is too wide. */
export function htmlTable({ header, rows }: TableContent): string {
  const cells = (tag: 'th' | 'td', row: readonly string[]) => row.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`);
  return [
    '<div class="wide"><table>',
    `<thead><tr>${cells('th', header).join('')}</tr></thead>`,
    `<tbody>${rows.map((row) => `<tr>${cells('td', row).join('')}</tr>`).join('\n')}</tbody>`,
    '</table></div>',
  ].join('\n');
}

export function paragraph(text: string): string {
  return `<p>${escapeHtml(text)}</p>`;
}

/** A picture with the sentence that says what to see in it. */
export function figure(svg: string | null, caption: string): string {
  return svg === null ? '' : `<figure class="plot">${svg}<figcaption>${escapeHtml(caption)}</figcaption></figure>`;
}

export function section(title: string, parts: readonly string[]): string {
  const content = parts.filter((part) => part !== '');
  return content.length === 0 ? '' : `<section><h2>${escapeHtml(title)}</h2>\n${content.join('\n')}</section>`;
}

export function details(summary: string, content: string): string {
  return `<details><summary>${escapeHtml(summary)}</summary>\n${content}</details>`;
}

export function htmlDocument(title: string, parts: readonly string[]): string {
  return [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${escapeHtml(title)}</title>`,
    // the browser asks for no icon then
    '<link rel="icon" href="data:,">',
    `<style>${STYLE}</style></head>`,
    `<body><main>\n<h1>${escapeHtml(title)}</h1>`,
    ...parts.filter((part) => part !== ''),
    '</main></body></html>',
    '',
  ].join('\n');
}

const STYLE = `
:root {
  color-scheme: light dark;
  --page: #fff; --text: #1b1b1b; --soft: #555; --line: #ddd; --panel: #f3f5fa; --mark: #3f63c4; --warn: #fff1d6; --user: #e6f4ea; --kernel: #e9edf8;
  --koffi: #8f8f8f; --entry: #f28c0f; --copy: #d8394c; --stack: #3f63c4; --onward: #86aef5; --daemon: #2a9d5c;
}
@media (prefers-color-scheme: dark) {
  :root { --page: #16181d; --text: #e6e6e6; --soft: #a9adb6; --line: #3a3e47; --panel: #22262e; --mark: #86aef5; --warn: #453514; --user: #1d3426; --kernel: #222b45; }
}
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem; }
main > section > p, main > p { max-width: 46rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 0.5rem; border-bottom: 2px solid var(--mark); }
h3 { font-size: 1rem; margin: 1.4rem 0 0.3rem; }
p, ul { margin: 0.5rem 0; }
.machine, figcaption, .note { color: var(--soft); font-size: 0.9rem; }
.warning { background: var(--warn); border-left: 4px solid #ff9f1c; padding: 0.5rem 0.8rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: 0.7rem; padding: 0; list-style: none; }
.facts li { background: var(--panel); border-radius: 6px; padding: 0.6rem 0.8rem; }
.facts b { display: block; font-size: 1.35rem; line-height: 1.2; }
dl.words { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 0.8rem; font-size: 0.9rem; max-width: 52rem; }
dl.words dt { font-weight: bold; }
dl.words dd { margin: 0; }
figure { margin: 1rem 0; break-inside: avoid; }
figure figure { margin: 0; }
figure.plot { overflow-x: auto; overflow-y: hidden; max-width: 46rem; }
figure.plot svg[aria-label] { width: 100%; height: auto; min-width: 30rem; }
figure [class*="swatches"] { font-size: 13px !important; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem 2rem; }
.way { margin: 0.5rem 0; }
.way h3 { margin: 0.2rem 0; }
.way ol { list-style: none; margin: 0.4rem 0; padding: 0; font-size: 0.85rem; }
.way li { padding: 0.15rem 0.5rem; }
.way li.user { background: var(--user); border-radius: 4px; }
.way li.kernel { background: var(--kernel); border-radius: 4px; }
.way li.kernel::before { content: "kernel: "; color: var(--soft); }
.way li.step { display: grid; grid-template-columns: 1fr max-content; gap: 0 0.5rem; padding: 0.1rem 0.5rem 0.3rem 1.2rem; }
.way .bar { grid-column: 1 / -1; grid-row: 2; }
.bar { display: flex; height: 0.8rem; background: var(--panel); }
.bar.thin { height: 0.4rem; }
.bar i { display: block; height: 100%; min-width: 1px; }
.way .ns { text-align: right; font-variant-numeric: tabular-nums; }
.colours { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; list-style: none; padding: 0; font-size: 0.85rem; }
.colours i { display: inline-block; width: 0.8rem; height: 0.8rem; margin-right: 0.35rem; vertical-align: -0.1rem; }
i.koffi { background: var(--koffi); } i.entry { background: var(--entry); } i.copy { background: var(--copy); }
i.stack { background: var(--stack); } i.onward { background: var(--onward); } i.daemon { background: var(--daemon); }
.wide { overflow-x: auto; }
table.text td { white-space: normal; text-align: left; }
table { border-collapse: collapse; font-size: 0.82rem; margin: 0.3rem 0 0.8rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
thead th { white-space: normal; vertical-align: bottom; background: var(--panel); }
table.targets td:nth-child(-n+2) { text-align: left; white-space: normal; }
summary { cursor: pointer; color: var(--mark); }
code { font-size: 0.9em; }
@media (max-width: 40rem) {
  dl.words { display: block; }
  dl.words dd { margin: 0 0 0.3rem; }
  th, td { padding: 0.2rem 0.3rem; }
}
@media print {
  :root { color-scheme: light; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  h2 { break-after: avoid; }
  table, .facts { break-inside: avoid; }
  .wide, figure.plot { overflow: visible; }
  i { print-color-adjust: exact; }
  th, td { padding: 0.1rem 0.25rem; font-size: 7.5pt; white-space: normal; }
  details:not([open]) { display: none; }
}
`;

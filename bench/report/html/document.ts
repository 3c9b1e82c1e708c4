/** One HTML file that needs nothing else: styles, tables and drawn plots inside, no script, no network. */

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

export interface TableContent {
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
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
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #1b1b1b; font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 0.5rem; border-bottom: 2px solid #274690; }
h3 { font-size: 1rem; margin: 1.4rem 0 0.3rem; }
p, ul { margin: 0.5rem 0; }
.machine, figcaption, .note { color: #555; font-size: 0.9rem; }
.warning { background: #fff1d6; border-left: 4px solid #ff9f1c; padding: 0.5rem 0.8rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: 0.7rem; padding: 0; list-style: none; }
.facts li { background: #f3f5fa; border-radius: 6px; padding: 0.6rem 0.8rem; }
.facts b { display: block; font-size: 1.35rem; line-height: 1.2; }
figure { margin: 1rem 0; break-inside: avoid; }
figure figure { margin: 0; }
figure svg { max-width: 100%; height: auto; }
figure [class*="swatches"] { font-size: 13px !important; }
.wide { overflow-x: auto; }
table.text td { white-space: normal; text-align: left; }
table { border-collapse: collapse; font-size: 0.82rem; margin: 0.3rem 0 0.8rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
thead th { white-space: normal; vertical-align: bottom; background: #f3f5fa; }
summary { cursor: pointer; color: #274690; }
code { font-size: 0.9em; }
@media print {
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  h2 { break-after: avoid; }
  table, .facts { break-inside: avoid; }
  .wide { overflow: visible; }
  th, td { padding: 0.1rem 0.25rem; font-size: 7.5pt; white-space: normal; }
  details:not([open]) { display: none; }
}
`;

/** Tells people what the lab is doing. */
export interface Progress {
  /** Runs one step; the text it returns, if any, is shown with the time it took. */
  step<T>(title: string, work: () => Promise<T>, note?: (result: T) => string): Promise<T>;
}

export const quietProgress: Progress = { step: (_title, work) => work() };

/** One line a step on a stream, with the seconds it took; on a terminal the running step is shown too. */
export function lineProgress(stream: NodeJS.WriteStream): Progress {
  return {
    async step(title, work, note) {
      const started = performance.now();
      if (stream.isTTY) stream.write(`      …  ${title}`);
      const restart = stream.isTTY ? '\r\u001b[K' : '';
      const line = (mark: string, text: string) => {
        const seconds = ((performance.now() - started) / 1000).toFixed(2);
        stream.write(`${restart}${mark} ${seconds.padStart(6)} s  ${text}\n`);
      };
      try {
        const result = await work();
        const more = note?.(result) ?? '';
        line('✓', more === '' ? title : `${title}: ${more}`);
        return result;
      } catch (error) {
        line('✗', title);
        throw error;
      }
    },
  };
}

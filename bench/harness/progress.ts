/** Tells people what is being measured and how long it will take. */
export interface Progress {
  /** @param seconds that all steps together are expected to take */
  begin(steps: number, seconds: number): void;
  step(text: string): void;
  /** The step took this long by the plan; its real time teaches the estimate. */
  done(plannedSeconds: number): void;
  /** A round begins: where there is no terminal, that is worth a line. */
  round(text: string): void;
  /** A line that stays. */
  note(text: string): void;
  end(): void;
}

/** One line that is rewritten on a terminal; elsewhere a line for every round. */
export function streamProgress(stream: NodeJS.WriteStream): Progress {
  let steps = 0;
  let finished = 0;
  let planned = 0;
  let plannedDone = 0;
  /** Seconds spent in finished steps, and when the one under way began. Setting things up is not in the plan. */
  let worked = 0;
  let stepStarted = 0;
  const clear = () => {
    if (stream.isTTY) stream.write('\r\u001b[K');
  };
  const left = () => formatSeconds(secondsLeft(planned, plannedDone, worked));
  return {
    begin(count, seconds) {
      steps = count;
      planned = seconds;
      finished = 0;
      plannedDone = 0;
      worked = 0;
    },
    step(text) {
      stepStarted = performance.now();
      if (!stream.isTTY) return;
      const line = `[${String(finished + 1).padStart(String(steps).length)}/${steps}] ${left()} left  ${text}`;
      clear();
      stream.write(line.slice(0, Math.max(20, (stream.columns ?? 80) - 1)));
    },
    done(plannedSeconds) {
      finished++;
      worked += (performance.now() - stepStarted) / 1000;
      plannedDone += plannedSeconds;
    },
    round(text) {
      if (!stream.isTTY) stream.write(`${text}; ${left()} left\n`);
    },
    note(text) {
      clear();
      stream.write(`${text}\n`);
    },
    end: clear,
  };
}

/** What is still planned, stretched by how much longer than planned the finished part took. */
export function secondsLeft(planned: number, plannedDone: number, elapsed: number): number {
  const stretch = plannedDone > 0 ? elapsed / plannedDone : 1;
  return Math.max(0, (planned - plannedDone) * stretch);
}

export function formatSeconds(seconds: number): string {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

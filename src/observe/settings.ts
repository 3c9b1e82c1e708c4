/** One value that the daemon was started with. */
export interface Setting {
  readonly name: string;
  /** Ready to be shown: no password is in it. */
  readonly value: string | number | boolean | readonly string[];
  /** `default`, the flag, or the environment variable it was read from. */
  readonly from: string;
}

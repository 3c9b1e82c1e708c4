export interface Engine {
  readonly env: NodeJS.ProcessEnv;
  readonly version: string;
  stop(): Promise<void>;
}
export function startEngine(place?: { inside?: string[]; options?: string[] }): Promise<Engine>;

// Asking the API.

import { streamPath } from '../address';
import { offsetOf, type ClockSample } from '../player/latency';
import type { Info, Stats, Stream, StreamPage } from './types';

const TIMEOUT_MS = 8000;

/** The API's answer to a question that went wrong. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

async function get<T>(path: string): Promise<T> {
  const answer = await fetch(path, {
    headers: { accept: 'application/json' },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (!answer.ok) {
    const problem = (await answer.json().catch(() => null)) as { detail?: string } | null;
    throw new ApiError(answer.status, problem?.detail ?? `The server answered ${answer.status}.`);
  }
  return (await answer.json()) as T;
}

export const info = () => get<Info>('/api/v1/info');
export const stats = () => get<Stats>('/api/v1/stats');
export const streams = (limit: number) => get<StreamPage>(`/api/v1/streams?limit=${limit}`);

/** One stream, or null if it is not live. */
export async function stream(app: string, name: string): Promise<Stream | null> {
  try {
    return await get<Stream>(`/api/v1/streams/${streamPath(app, name)}`);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/** How far the server's clock is ahead of ours, in ms: of three samples the one that was answered fastest. */
export async function clockOffset(): Promise<number> {
  const samples: ClockSample[] = [];
  for (let i = 0; i < 3; i += 1) {
    const asked_ms = Date.now();
    const { now_ms } = await info();
    samples.push({ asked_ms, answered_ms: Date.now(), server_ms: now_ms });
  }
  return offsetOf(samples);
}

// What a viewer chose before. Where there is no storage, nothing is remembered.

import { isVia, type Via } from '../address';

const VIA = 'weir.via';
const SOUND = 'weir.sound';

function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function write(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Private windows may refuse.
  }
}

/** What the address asks for, else what was chosen last, else LL-HLS. */
export function preferredVia(asked: unknown): Via {
  if (isVia(asked)) return asked;
  const last = read(VIA);
  return isVia(last) ? last : 'hls';
}

export const rememberVia = (via: Via) => write(VIA, via);
export const wantsSound = () => read(SOUND) === 'on';
export const rememberSound = (on: boolean) => write(SOUND, on ? 'on' : 'off');

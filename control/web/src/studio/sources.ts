// What a browser can publish: its camera, its screen, or a test picture that it draws itself.

import { testPicture } from './testPicture';

export type Source = 'camera' | 'screen' | 'test';

export const SOURCES: readonly Source[] = ['camera', 'screen', 'test'];

export const SOURCE_NAMES: Record<Source, string> = { camera: 'Camera', screen: 'Screen', test: 'Test picture' };

/** Media that can be let go of. */
export interface Taken {
  stream: MediaStream;
  /** Ends its tracks, and what makes them. */
  release(): void;
}

/** Pictures of this size, and so many a second, are asked for; devices give what they can. */
export interface Format {
  width: number;
  height: number;
  fps: number;
}

/** Whether the browser lets this page have devices at all: only over HTTPS, or on this machine. */
export const mayUseDevices = (): boolean => navigator.mediaDevices !== undefined;

/** Takes a source; fails, in words for people, where the user or the system says no. */
export async function take(source: Source, format: Format, microphone: boolean): Promise<Taken> {
  if (source === 'test') return testPicture(format);
  if (!mayUseDevices()) throw new Error('Browsers give cameras and screens to pages over HTTPS only, or on the machine itself.');
  const video = { width: { ideal: format.width }, height: { ideal: format.height }, frameRate: { ideal: format.fps } };
  try {
    if (source === 'camera') return held(await navigator.mediaDevices.getUserMedia({ video, audio: microphone }));
    const stream = await navigator.mediaDevices.getDisplayMedia({ video, audio: true });
    // A screen is often silent: then the microphone is what is heard.
    if (microphone && stream.getAudioTracks().length === 0) {
      try {
        const sound = await navigator.mediaDevices.getUserMedia({ audio: true });
        sound.getAudioTracks().forEach((track) => stream.addTrack(track));
      } catch (error) {
        held(stream).release();
        throw error;
      }
    }
    return held(stream);
  } catch (error) {
    throw new Error(reason(source, error as DOMException));
  }
}

function held(stream: MediaStream): Taken {
  return { stream, release: () => stream.getTracks().forEach((track) => track.stop()) };
}

function reason(source: Source, { name, message }: DOMException): string {
  switch (name) {
    case 'NotAllowedError':
      return `This page may not use your ${source}. Allow it beside the address, then try again.`;
    case 'NotFoundError':
      return `No ${source} or microphone was found.`;
    case 'NotReadableError':
      return `Your ${source} is in use by another program.`;
    default:
      return message || name;
  }
}

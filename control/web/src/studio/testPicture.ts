// A test picture: bars, something that moves, the time to the millisecond, and a tone each second.

import type { Format, Taken } from './sources';

const BARS = ['#c8c8c8', '#c8c800', '#00c8c8', '#00c800', '#c800c8', '#c80000', '#0000c8'];
const TONE_HZ = 880;
const TONE_S = 0.08;

/** The time that a picture shows. */
const clock = (now: Date) => now.toISOString().slice(11, 23);

export function testPicture({ width, height, fps }: Format): Taken {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const picture = canvas.getContext('2d', { alpha: false })!;
  let frames = 0;
  const draw = () => {
    frames += 1;
    const [bar, upper] = [width / BARS.length, Math.round(height * 0.7)];
    BARS.forEach((color, i) => {
      picture.fillStyle = color;
      picture.fillRect(Math.floor(i * bar), 0, Math.ceil(bar), upper);
    });
    picture.fillStyle = '#10161c';
    picture.fillRect(0, upper, width, height - upper);
    picture.fillStyle = '#56d0e0';
    picture.fillRect(((frames * 4) % (width + 80)) - 80, upper, 80, 8);
    picture.fillStyle = '#fff';
    picture.font = `600 ${Math.round(height / 9)}px ui-monospace, monospace`;
    picture.textAlign = 'center';
    picture.textBaseline = 'middle';
    picture.fillText(clock(new Date()), width / 2, upper + (height - upper) / 2 + 4);
  };
  draw();
  const drawing = window.setInterval(draw, 1000 / fps);

  const audio = new AudioContext();
  // Where a page may not make a sound before somebody clicks, nothing is heard until then.
  void audio.resume();
  const [sound, volume] = [audio.createMediaStreamDestination(), audio.createGain()];
  const tone = new OscillatorNode(audio, { frequency: TONE_HZ });
  volume.gain.value = 0;
  tone.connect(volume).connect(sound);
  tone.start();
  const beeping = window.setInterval(() => {
    volume.gain.setValueAtTime(0.25, audio.currentTime);
    volume.gain.setValueAtTime(0, audio.currentTime + TONE_S);
  }, 1000);

  const stream = canvas.captureStream(fps);
  sound.stream.getAudioTracks().forEach((track) => stream.addTrack(track));
  return {
    stream,
    release: () => {
      clearInterval(drawing);
      clearInterval(beeping);
      stream.getTracks().forEach((track) => track.stop());
      void audio.close();
    },
  };
}

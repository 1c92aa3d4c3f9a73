// Publishes a fake camera by WHIP, or watches by WHEP, in headless Chromium, and prints, four times a second, what WebRTC's
// statistics say: a JSON object a line. Ends, with the browser, when its standard input does.
//
//   node webrtc.mjs ENDPOINT publish|play

import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import puppeteer from 'puppeteer-core';

const REPORT_MS = 250;

const [endpoint, role] = process.argv.slice(2);

const executablePath = process.env.PATH.split(delimiter)
  .map((folder) => join(folder, 'chromium'))
  .find(existsSync);
if (!executablePath) throw new Error('no chromium in PATH: run tests/setup.sh test');
const userDataDir = await mkdtemp(join(tmpdir(), 'weir-browser-'));
const browser = await puppeteer.launch({
  executablePath,
  userDataDir,
  pipe: true,
  headless: true,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--autoplay-policy=no-user-gesture-required',
    '--use-fake-device-for-media-stream',
    '--use-fake-ui-for-media-stream',
  ],
});

let ending = false;
async function end() {
  if (ending) return;
  ending = true;
  await browser.close();
  await rm(userDataDir, { recursive: true, force: true });
  process.exit(0);
}
process.stdin.on('end', end).on('error', end).resume();

const page = await browser.newPage();
page.on('pageerror', (error) => console.error(`page error: ${error.message}`));
page.on('console', (message) => console.error(`console: ${message.text()}`));
// Any page of the server's: 127.0.0.1 may use the camera.
await page.goto(new URL('/', endpoint).href);

await page.evaluate(
  async (endpoint, role) => {
    const pc = new RTCPeerConnection();
    const state = { role, answeredAt: 0, connectedMs: null, firstFrameMs: null, error: null, answer: '' };
    window.rtc = { pc, state };
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === 'connected') state.connectedMs = performance.now() - state.answeredAt;
    };
    if (role === 'publish') {
      const media = await navigator.mediaDevices.getUserMedia({
        video: { width: 640, height: 360, frameRate: 25 },
        audio: true,
      });
      for (const track of media.getTracks()) pc.addTransceiver(track, { direction: 'sendonly', streams: [media] });
    } else {
      const video = document.createElement('video');
      video.muted = true;
      video.autoplay = true;
      const stream = new MediaStream();
      video.srcObject = stream;
      document.body.replaceChildren(video);
      pc.ontrack = ({ track }) => stream.addTrack(track);
      pc.addTransceiver('video', { direction: 'recvonly' });
      pc.addTransceiver('audio', { direction: 'recvonly' });
      video.requestVideoFrameCallback(() => (state.firstFrameMs = performance.now() - state.answeredAt));
    }
    await pc.setLocalDescription();
    // What an ICE-lite server answers whoever checks: nothing has to be gathered before.
    const answer = await fetch(endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/sdp' },
      body: pc.localDescription.sdp,
    });
    const text = await answer.text();
    if (answer.status !== 201) {
      state.error = `${answer.status} ${text}`;
      return;
    }
    state.location = answer.headers.get('location');
    state.warning = answer.headers.get('warning');
    state.answer = text;
    state.answeredAt = performance.now();
    await pc.setRemoteDescription({ type: 'answer', sdp: text });
  },
  endpoint,
  role,
);

while (!ending) {
  try {
    const report = await page.evaluate(async () => {
      const { pc, state } = window.rtc;
      const all = [...(await pc.getStats()).values()];
      const of = (type, kind) => all.find((stat) => stat.type === type && stat.kind === kind) ?? {};
      const [video, audio] = ['video', 'audio'].map((kind) => of('inbound-rtp', kind));
      const sent = of('outbound-rtp', 'video');
      const codec = all.find((stat) => stat.id === (video.codecId ?? sent.codecId));
      return {
        error: state.error,
        state: pc.connectionState,
        location: state.location,
        warning: state.warning,
        connectedMs: state.connectedMs,
        firstFrameMs: state.firstFrameMs,
        codec: codec?.mimeType,
        framesDecoded: video.framesDecoded ?? 0,
        framesDropped: video.framesDropped ?? 0,
        freezes: video.freezeCount ?? 0,
        width: video.frameWidth ?? 0,
        nacks: video.nackCount ?? 0,
        plis: video.pliCount ?? 0,
        lost: video.packetsLost ?? 0,
        delayMs: (1000 * (video.jitterBufferDelay ?? 0)) / Math.max(1, video.jitterBufferEmittedCount ?? 0),
        audioPackets: audio.packetsReceived ?? 0,
        audioSamples: audio.totalSamplesReceived ?? 0,
        framesSent: sent.framesEncoded ?? 0,
        keyFramesSent: sent.keyFramesEncoded ?? 0,
        plisReceived: sent.pliCount ?? 0,
        resent: sent.retransmittedPacketsSent ?? 0,
        packetsSent: sent.packetsSent ?? 0,
      };
    });
    console.log(JSON.stringify(report));
  } catch (error) {
    if (!ending) console.error(`report: ${error.message}`);
  }
  await new Promise((resolve) => setTimeout(resolve, REPORT_MS));
}

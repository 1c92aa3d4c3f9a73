// Publishes a fake camera by WHIP, or watches by WHEP, in headless Chromium, and prints, four times a second, what WebRTC's
// statistics say: a JSON object a line. Ends, with the browser, when its standard input does.
//
//   node webrtc.mjs ENDPOINT publish|play [OPTIONS]
//   node webrtc.mjs STREAM clock            publishes a picture of the time to STREAM/whip and watches it by STREAM/whep
//
// OPTIONS is JSON: `tone` publishes a tone for sound, `port` is where media goes in place of the answer's, `relay` lets it go by way of TURN only. A line
// "restart" on its standard input restarts ICE.

import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import puppeteer from 'puppeteer-core';

const REPORT_MS = 250;

const [endpoint, role, json] = process.argv.slice(2);
const options = JSON.parse(json ?? '{}');

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
  async (endpoint, role, options) => {
    const state = { role, answeredAt: 0, connectedMs: null, firstFrameMs: null, error: null, latencies: [] };
    window.rtc = { state };

    // `Link` of RFC 9725 §4.6, as what RTCPeerConnection takes.
    async function servers(url) {
      const answer = await fetch(url, { method: 'OPTIONS' });
      const links = (answer.headers.get('link') ?? '').matchAll(/<([^>]+)>((?:; *[\w-]+="[^"]*")*)/g);
      return [...links].map(([, urls, rest]) => {
        const attribute = (name) => rest.match(new RegExp(`; *${name}="([^"]*)"`))?.[1];
        return { urls, username: attribute('username'), credential: attribute('credential') };
      });
    }

    // A picture that says, in blocks black and white, what time it is: milliseconds in 16 bits, and their inverse below.
    function clock() {
      const canvas = document.createElement('canvas');
      [canvas.width, canvas.height] = [640, 360];
      const context = canvas.getContext('2d');
      const draw = () => {
        const time = Math.round(performance.now()) & 0xffff;
        for (let bit = 0; bit < 16; bit += 1) {
          const white = (time >> bit) & 1;
          context.fillStyle = white ? '#fff' : '#000';
          context.fillRect(bit * 40, 0, 40, 180);
          context.fillStyle = white ? '#000' : '#fff';
          context.fillRect(bit * 40, 180, 40, 180);
        }
      };
      draw();
      setInterval(draw, 1000 / 30);
      return canvas.captureStream(30);
    }

    function read(video, context) {
      context.drawImage(video, 0, 0, 16, 2);
      const { data } = context.getImageData(0, 0, 16, 2);
      let time = 0;
      for (let bit = 0; bit < 16; bit += 1) {
        const [above, below] = [data[bit * 4], data[(16 + bit) * 4]];
        if (above > 127 === below > 127) return null;
        if (above > 127) time |= 1 << bit;
      }
      return time;
    }

    async function connect(url, pc) {
      const { type, sdp: own } = await pc.createOffer();
      // As the page of a stream does: see exchange.ts.
      const offer = own.replace(/^a=rtcp-fb:(\d+) nack\r\n/gm, (line, pt) => `${line}a=rtcp-fb:${pt} rrtr\r\n`);
      await pc.setLocalDescription({ type, sdp: offer });
      // What an ICE-lite server answers whoever checks: nothing has to be gathered before.
      const answer = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/sdp' },
        body: pc.localDescription.sdp,
      });
      let sdp = await answer.text();
      if (answer.status !== 201) {
        state.error = `${answer.status} ${sdp}`;
        return;
      }
      // By way of somebody between us.
      if (options.port) sdp = sdp.replace(/^(a=candidate:\S+ \d+ \w+ \d+ \S+) \d+/gm, `$1 ${options.port}`);
      state.location = new URL(answer.headers.get('location'), url).href;
      state.warning = answer.headers.get('warning');
      state.answeredAt = performance.now();
      window.rtc.answer = sdp;
      await pc.setRemoteDescription({ type: 'answer', sdp });
    }

    async function configuration(url) {
      if (!options.relay) return {};
      return { iceServers: await servers(url), iceTransportPolicy: 'relay' };
    }

    async function publish(url, media) {
      const pc = new RTCPeerConnection(await configuration(url));
      for (const track of media.getTracks()) pc.addTransceiver(track, { direction: 'sendonly', streams: [media] });
      window.rtc.pc = pc;
      await connect(url, pc);
    }

    async function play(url) {
      const pc = new RTCPeerConnection(await configuration(url));
      window.rtc.pc = pc;
      pc.onconnectionstatechange = () => {
        if (pc.connectionState === 'connected') state.connectedMs ??= performance.now() - state.answeredAt;
      };
      const video = document.createElement('video');
      // What is muted has no energy in the statistics.
      video.muted = false;
      video.autoplay = true;
      const stream = new MediaStream();
      video.srcObject = stream;
      document.body.replaceChildren(video);
      pc.ontrack = ({ track }) => stream.addTrack(track);
      pc.addTransceiver('video', { direction: 'recvonly' });
      pc.addTransceiver('audio', { direction: 'recvonly' });
      const canvas = document.createElement('canvas');
      [canvas.width, canvas.height] = [16, 2];
      const context = canvas.getContext('2d', { willReadFrequently: true });
      const shown = () => {
        const now = performance.now();
        state.firstFrameMs ??= now - state.answeredAt;
        if (role === 'clock') {
          const time = read(video, context);
          if (time !== null) state.latencies.push((Math.round(now) - time) & 0xffff);
        }
        video.requestVideoFrameCallback(shown);
      };
      video.requestVideoFrameCallback(shown);
      await connect(url, pc);
    }

    // RFC 9725 §4.3.3.
    window.rtc.restart = async () => {
      const { pc, answer } = window.rtc;
      const offer = await pc.createOffer({ iceRestart: true });
      await pc.setLocalDescription(offer);
      const own = (name) => offer.sdp.match(new RegExp(`^a=${name}:(.*?)\\r?$`, 'm'))[1];
      const response = await fetch(state.location, {
        method: 'PATCH',
        headers: { 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': '*' },
        body: `a=ice-ufrag:${own('ice-ufrag')}\r\na=ice-pwd:${own('ice-pwd')}\r\n`,
      });
      const fragment = await response.text();
      const theirs = (name) => fragment.match(new RegExp(`^a=${name}:(.*?)\\r?$`, 'm'))[0];
      let sdp = answer;
      for (const name of ['ice-ufrag', 'ice-pwd']) {
        sdp = sdp.replace(new RegExp(`^a=${name}:.*$`, 'gm'), theirs(name).trim());
      }
      await pc.setRemoteDescription({ type: 'answer', sdp });
      state.restarted = response.status;
      state.restarts = (state.restarts ?? 0) + 1;
    };

    // A tone without end, in the place of the fake microphone's beeps, which are too short for a voice.
    function tone() {
      const context = new AudioContext();
      const [oscillator, destination] = [context.createOscillator(), context.createMediaStreamDestination()];
      oscillator.connect(destination);
      oscillator.start();
      return destination.stream.getAudioTracks();
    }

    if (role === 'publish') {
      const video = { width: 640, height: 360, frameRate: 25 };
      const media = await navigator.mediaDevices.getUserMedia({ video, audio: !options.tone });
      if (options.tone) tone().forEach((track) => media.addTrack(track));
      await publish(endpoint, media);
    } else if (role === 'clock') {
      await publish(`${endpoint}/whip`, clock());
      window.rtc.publisher = window.rtc.pc;
      for (let tries = 0; tries < 100; tries += 1) {
        const sent = [...(await window.rtc.publisher.getStats()).values()];
        if (sent.some((stat) => stat.type === 'outbound-rtp' && stat.framesSent > 30)) break;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      await play(`${endpoint}/whep`);
    } else {
      await play(endpoint);
    }
  },
  endpoint,
  role,
  options,
);

process.stdin.on('data', async (data) => {
  if (!data.toString().includes('restart')) return;
  try {
    await page.evaluate(() => window.rtc.restart());
  } catch (error) {
    console.error(`restart: ${error.message}`);
  }
});

while (!ending) {
  try {
    const report = await page.evaluate(async () => {
      const { pc, state } = window.rtc;
      if (!pc) return { error: state.error };
      const all = [...(await pc.getStats()).values()];
      const of = (type, kind) => all.find((stat) => stat.type === type && stat.kind === kind) ?? {};
      const [video, audio] = ['video', 'audio'].map((kind) => of('inbound-rtp', kind));
      const sent = of('outbound-rtp', 'video');
      const pair = all.find((stat) => stat.type === 'candidate-pair' && stat.nominated && stat.state === 'succeeded');
      const local = all.find((stat) => stat.id === pair?.localCandidateId);
      const latencies = state.latencies.slice(-300).sort((a, b) => a - b);
      const quantile = (part) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * part))] ?? -1;
      const codec = all.find((stat) => stat.id === (video.codecId ?? sent.codecId));
      return {
        error: state.error,
        state: pc.connectionState,
        location: state.location,
        warning: state.warning,
        restarted: state.restarted ?? 0,
        restarts: state.restarts ?? 0,
        connectedMs: state.connectedMs,
        firstFrameMs: state.firstFrameMs ?? -1,
        candidate: local?.candidateType,
        latencies: state.latencies.length,
        latencyP50Ms: quantile(0.5),
        latencyP99Ms: quantile(0.99),
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
        // What was made up for want of sound, and how loud all of it was: full scale is 1 a second.
        audioConcealed: audio.concealedSamples ?? 0,
        audioEnergy: audio.totalAudioEnergy ?? 0,
        audioSeconds: audio.totalSamplesDuration ?? 0,
        audioCodec: all.find((stat) => stat.id === audio.codecId)?.mimeType,
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

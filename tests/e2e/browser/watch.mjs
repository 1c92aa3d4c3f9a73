// Opens a page of weir in headless Chromium and prints, four times a second, what its player says of
// itself, or the text of each live stream if there is no player: a JSON object a line. Ends, with the browser, when its standard input does.
// With a certificate, which the server shows, the page is asked for over HTTP/3 (h3) or only by others (h2); `protocols` in what
// is printed counts by what the files of media came. An address that ends with .ts is played by mpegts.js alone. The studio
// publishes its test picture.
//
//   node watch.mjs URL [CERTIFICATE h2|h3]

import { X509Certificate, createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import puppeteer from 'puppeteer-core';

const REPORT_MS = 250;

const [url, certificate, version] = process.argv.slice(2);

function secure() {
  if (!certificate) return [];
  const key = new X509Certificate(readFileSync(certificate)).publicKey.export({ type: 'spki', format: 'der' });
  const hash = createHash('sha256').update(key).digest('base64');
  return [
    `--ignore-certificate-errors-spki-list=${hash}`,
    '--host-resolver-rules=MAP localhost 127.0.0.1',
    version === 'h3' ? `--origin-to-force-quic-on=${new URL(url).host}` : '--disable-quic',
  ];
}

const executablePath = process.env.PATH.split(delimiter)
  .map((folder) => join(folder, 'chromium'))
  .find(existsSync);
if (!executablePath) throw new Error('no chromium in PATH: run tests/setup.sh test');
const userDataDir = await mkdtemp(join(tmpdir(), 'weir-browser-'));
const browser = await puppeteer.launch({
  executablePath,
  userDataDir,
  // Over a pipe: should this process be killed, the browser sees the pipe close and ends, too.
  pipe: true,
  headless: true,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    // Containers have a /dev/shm of 64 MB, and a renderer that finds it full crashes.
    '--disable-dev-shm-usage',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--autoplay-policy=no-user-gesture-required',
    '--use-fake-device-for-media-stream',
    '--use-fake-ui-for-media-stream',
    '--window-size=800,600',
    ...secure(),
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
let loads = 0;
let errors = 0;
page.on('load', () => (loads += 1));
page.on('pageerror', (error) => {
  errors += 1;
  console.error(`page error: ${error.message}`);
});
page.on('console', (message) => console.error(`console: ${message.text()}`));
const protocols = {};
const network = await page.createCDPSession();
network.on('Network.responseReceived', ({ response }) => {
  const kind = /\.(m3u8|mp4|m4s|flv)$/.exec(new URL(response.url).pathname)?.[1];
  if (!kind) return;
  const counts = (protocols[kind] ??= {});
  counts[response.protocol] = (counts[response.protocol] ?? 0) + 1;
});
await network.send('Network.enable');
// A transport stream has no page of its own: mpegts.js plays it on the one at the root.
const isTs = new URL(url).pathname.endsWith('.ts');
await page.setBypassCSP(isTs);
await page.goto(isTs ? new URL('/', url).href : url, { waitUntil: 'load' });
if (isTs) {
  const library = '../../../control/web/node_modules/mpegts.js/dist/mpegts.js';
  await page.addScriptTag({ path: fileURLToPath(new URL(library, import.meta.url)) });
  await page.evaluate(playTs, url);
}

function playTs(url) {
  const video = document.body.appendChild(document.createElement('video'));
  video.muted = true;
  const { mpegts } = window;
  const player = mpegts.createPlayer({ type: 'mpegts', isLive: true, url });
  let fatal_errors = 0;
  let stalls = 0;
  player.on(mpegts.Events.ERROR, () => (fatal_errors += 1));
  video.addEventListener('playing', () => video.addEventListener('waiting', () => (stalls += 1)), { once: true });
  player.attachMediaElement(video);
  player.load();
  player.play();
  const stats = () => ({
    current_time: video.currentTime,
    width: video.videoWidth,
    height: video.videoHeight,
    total_frames: video.getVideoPlaybackQuality().totalVideoFrames,
    codecs: [player.mediaInfo.videoCodec, player.mediaInfo.audioCodec].join(),
    fatal_errors,
    stalls,
  });
  window.__weir = { stats };
}

// The studio publishes its test picture.
if (new URL(url).pathname === '/studio') {
  await page.click('input[value="test"]');
  await page.click('button[type="submit"]');
}

function read() {
  if (window.__weir) return window.__weir.stats();
  if (window.__weirStudio) return window.__weirStudio.stats();
  const rows = document.querySelectorAll('[aria-label="Live streams"] > li');
  // Before the first answer, and where something else is shown, there is nothing to tell.
  if (!rows.length && !document.querySelector('.empty')) return null;
  return { streams: [...rows].map((row) => row.innerText) };
}

while (!ending) {
  const stats = await page.evaluate(read).catch(() => null);
  if (stats) console.log(JSON.stringify({ ...stats, loads, errors, protocols, at_ms: Date.now() }));
  await new Promise((resolve) => setTimeout(resolve, REPORT_MS));
}

import vue from '@vitejs/plugin-vue';
import { defineConfig } from 'vitest/config';

// In development the API and the streams come from a weir that runs beside: `npm run dev`.
const server = process.env.WEIR_URL ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [vue()],
  build: {
    target: 'es2022',
    // Everything is a file of its own with a hash in its name, so that the strict
    // Content-Security-Policy holds and browsers keep it for good.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // hls.js, which only the player loads.
    chunkSizeWarningLimit: 700,
  },
  server: {
    proxy: {
      '/api': server,
      '^/[^/]+/[^/]+\\.flv': { target: server, ws: true },
      '^/[^/]+/[^/]+/.*\\.(m3u8|m4s|mp4)': server,
    },
  },
  test: { include: ['test/**/*.test.ts'] },
});

import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  // Relative addresses, so that the page also works from a folder of files.
  base: './',
  plugins: [react()],
  build: {
    outDir: '../src/inward/server/static',
    emptyOutDir: true,
    target: 'es2022',
    // A data: address would be refused for scripts and workers by the content security policy.
    assetsInlineLimit: 0,
  },
  worker: { format: 'es' },
  test: { include: ['test/**/*.test.ts'], environment: 'node' },
});

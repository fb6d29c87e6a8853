// Labels an image with onnxruntime-web: node label.mjs GRAPH PIXELS HEIGHT WIDTH OUT
// PIXELS and OUT are files of raw bytes, (HEIGHT, WIDTH, 3) and (HEIGHT, WIDTH).

import * as fs from 'node:fs';
import * as ort from 'onnxruntime-web';

const [graph, pixels, height, width, out] = process.argv.slice(2);

// One thread: more want headers that a page of another origin has not
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(fs.readFileSync(graph), {
  executionProviders: ['wasm'],
  logSeverityLevel: 3,
});
const image = new ort.Tensor('uint8', new Uint8Array(fs.readFileSync(pixels)), [
  Number(height),
  Number(width),
  3,
]);
const { label } = await session.run({ image });
fs.writeFileSync(out, label.data);

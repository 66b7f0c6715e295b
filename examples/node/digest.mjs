// A Node client: sends a page to `yizhai serve` and prints every section as soon as it is done.
//
//   npm install --prefix examples/node
//   node examples/node/digest.mjs 127.0.0.1:50051 PAGE.txt
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const [server, path] = process.argv.slice(2);
if (!path) {
  console.error('usage: digest.mjs SERVER PAGE');
  process.exit(2);
}
const proto = fileURLToPath(new URL('../../proto', import.meta.url));
const definition = loadSync('yizhai/v1/digest.proto', { includeDirs: [proto], enums: String, longs: Number, oneofs: true });
const { DigestService } = grpc.loadPackageDefinition(definition).yizhai.v1;
const client = new DigestService(server, grpc.credentials.createInsecure());

// Only what carries RetryInfo is worth sending again; a server that is loading its model says so.
await new Promise((resolve, reject) => {
  client.waitForReady(Date.now() + 10_000, (error) => (error ? reject(error) : resolve()));
});
let articles = [];
const events = client.StreamDigest({ input: { pageBytes: readFileSync(path) } });
events.on('data', ({ event, document, section, statistics }) => {
  if (event === 'document') articles = document.articles;
  if (event === 'section') {
    console.log(`# ${articles[section.articleIndex].headline?.text ?? ''}`);
    if (section.error) console.log(`failed: ${section.error.message}`);
    if (section.summary) console.log(`摘要 ${section.summary.text}`);
    for (const { text } of section.translation?.paragraphs ?? []) console.log(text);
    console.log();
  }
  if (event === 'statistics') console.error(`${statistics.sections} sections in ${statistics.totalTimeMs} ms`);
});
events.on('error', (error) => {
  console.error(error.message);
  process.exitCode = 1;
});

#!/usr/bin/env node
// Calls every RPC of `yizhai serve` from Node.js: models, structure, a digest, a stream and a batch.
//
//   npm install --prefix examples/node
//   node examples/node/digest.mjs 127.0.0.1:50051 [TEXT]
//
// Set TOKEN to send a bearer token, and CA to the path of a PEM file to use TLS.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address = "127.0.0.1:50051", text = "今天天气很好。"] = process.argv.slice(2);
const proto = fileURLToPath(new URL("../../proto", import.meta.url));
const definition = loader.loadSync("yizhai/v1/digest.proto", {
  includeDirs: [proto], keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true,
});
const { DigestService } = grpc.loadPackageDefinition(definition).yizhai.v1;
const credentials = process.env.CA
  ? grpc.credentials.createSsl(readFileSync(process.env.CA))
  : grpc.credentials.createInsecure();
const client = new DigestService(address, credentials, { "grpc.max_receive_message_length": -1 });

const metadata = () => {
  const metadata = new grpc.Metadata({ waitForReady: true });
  if (process.env.TOKEN) metadata.set("authorization", `Bearer ${process.env.TOKEN}`);
  return metadata;
};
// Without a deadline, a call waits forever if the connection hangs.
const deadline = () => ({ deadline: Date.now() + 300_000 });
const unary = (rpc, request) => new Promise((resolve, reject) => {
  client[rpc](request, metadata(), deadline(), (error, response) => (error ? reject(error) : resolve(response)));
});

const input = { page_text: text, page_format: "PAGE_FORMAT_LINES" };
const options = { tasks: ["TASK_SUMMARY"] };

const { models } = await unary("ListModels", {});
console.log("running", models.find((model) => model.running)?.id);
const { document } = await unary("Segment", { input });
console.log("sections", document.articles.reduce((sum, article) => sum + article.sections.length, 0));
const { sections } = await unary("Digest", { input, options });
console.log("summary", sections[0].summary.text);

for await (const event of client.StreamDigest({ input, options }, metadata(), deadline())) {
  console.log("event", event.event);
}

const batch = client.DigestMany(metadata(), deadline());
for (const item_id of ["a", "b"]) batch.write({ item_id, input, options });
batch.end();
for await (const response of batch) console.log("item", response.item_id, response.result);
client.close();

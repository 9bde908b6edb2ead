"use strict";
// Answers photographs beside the page, so that it never stands still.
importScripts("verdicts.js", "seeing.js", "runtime/ort.wasm.min.js");

const opened = (async () => {
  ort.env.wasm.wasmPaths = new URL("runtime/", self.location.href).href;
  ort.env.wasm.numThreads = 1; // more take headers that few hosts send
  const rules = await (await fetch("rules.json")).json();
  const graph = await (await fetch("model.onnx")).arrayBuffer();
  return { rules, session: await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] }) };
})();

async function answer(blob) {
  const { rules, session } = await opened, size = rules.view.size;
  const view = viewOf(await pixelsOf(blob), rules.view, blob.type === "image/jpeg");
  const found = await session.run({ images: new ort.Tensor("uint8", view, [1, 3, size, size]) });
  const familiarity = found.familiarity ? found.familiarity.data[0] : undefined;
  return verdictOf(rules, found.log_probabilities.data, familiarity);
}

opened.then(({ rules }) => postMessage({ rules }), (error) => postMessage({ broken: String(error.message || error) }));

async function tell({ number, blob }) {
  try {
    postMessage({ number, verdict: await answer(blob) });
  } catch (error) {
    postMessage({ number, problem: String(error.message || error) });
  }
}

let turn = Promise.resolve(); // one photograph at a time: decoded, it takes four bytes for each pixel, and more than once
onmessage = ({ data }) => { turn = turn.then(() => tell(data)); };

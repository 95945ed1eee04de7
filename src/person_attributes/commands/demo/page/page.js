// The page: photographs come in, answers are shown.

import { enableHeat, markHeat, markKept, showAnswer } from "./answer.js";
import { Batch } from "./batch.js";
import { openCamera } from "./camera.js";
import { showCurl } from "./curl.js";
import { find, make, spell } from "./dom.js";
import { showHeat, showPhotograph } from "./pictures.js";
import { ask, correct, deleteCorrections, explain, readSettings } from "./server.js";

const settings = await readSettings();
let photos = [];
let batch = null;
let shown = null;
let controller = new AbortController();

function makePhoto(file) {
  return { file, name: file.name, path: file.webkitRelativePath || file.name, url: URL.createObjectURL(file) };
}

/** Asks for the answers; a photograph that cannot be sent has a reason instead. */
async function answer(photo, signal) {
  const refuse = (reason) => ({ answers: settings.models.map(() => ({ heads: {}, reason })), kept: {} });
  const limit = settings.maxBytes / 1e6;
  if (photo.file.size > settings.maxBytes) return refuse(`a file of more than ${limit} MB. Choose a smaller one.`);
  try {
    return await ask(photo, signal);
  } catch (error) {
    return refuse(`${error.message}. Check that the demo is running, then try again.`);
  }
}

/** Opens one photograph, or several as a grid. */
async function open(files) {
  if (!files.length) return; // text was pasted, or the dialog was cancelled
  batch?.stop();
  batch = null;
  photos.forEach((photo) => URL.revokeObjectURL(photo.url));
  photos = files.map(makePhoto);
  find("batch").hidden = true;
  find("grid").replaceChildren();
  if (photos.length === 1) {
    await show(photos[0]);
    return;
  }
  close();
  batch = new Batch(photos, settings.models, answer, showFromGrid);
  await batch.run();
}

function close() {
  controller.abort();
  find("answer").hidden = true;
  find("pictures").replaceChildren();
  find("drop").classList.remove("filled");
  find("state").textContent = "";
}

async function showFromGrid(photo, result) {
  const isFinished = show(photo, result);
  find("answer-title").focus();
  await isFinished;
}

/** Shows a photograph, its answer, then its heat maps. */
async function show(photo, known) {
  controller.abort();
  controller = new AbortController();
  const { signal } = controller;
  showPhotograph(photo, settings.models);
  find("state").textContent = `Reading ${photo.name}.`;
  const result = known ?? (await answer(photo, signal));
  if (signal.aborted) return;
  shown = result;
  const actions = { toggleHeat: () => {}, correct: settings.corrections && keepFor(photo, result) };
  showAnswer(result.answers, actions, settings.corrections?.classes ?? {});
  markKept(result.kept);
  showCurl(photo, settings.models[0]);
  find("answer-title").textContent = photo.name;
  find("answer").hidden = false;
  find("corrections").hidden = !settings.corrections || Boolean(result.answers[0].reason);
  find("state").textContent = summarize(photo, result.answers);
  if (!result.answers[0].reason) await loadHeat(photo, actions, signal);
}

function summarize(photo, [{ heads, reason }]) {
  if (reason) return "";
  const labels = Object.entries(heads).map(([head, { label }]) => `${spell(head)} ${label}`);
  return `${photo.name}: ${labels.join(", ")}.`;
}

async function loadHeat(photo, actions, signal) {
  let heatmaps;
  try {
    heatmaps = await Promise.all(settings.models.map((_, model) => explain(photo, model, signal)));
  } catch {
    return; // another photograph was opened, or the demo has ended
  }
  let selected = null;
  actions.toggleHeat = (head) => {
    selected = head === selected ? null : head;
    markHeat(selected);
    showHeat(selected, heatmaps);
  };
  enableHeat(heatmaps.flatMap(Object.keys));
}

/** Returns the action that keeps the right class of a head, or removes it if it is kept. */
function keepFor(photo, result) {
  return async (head, name) => {
    const label = result.kept[head] === name ? "" : name;
    try {
      const { kept, corrections } = await correct(photo, head, label);
      result.kept = kept;
      markKept(kept);
      showCorrections(corrections, label ? `Kept: ${spell(head)} ${label}.` : `Removed: ${spell(head)}.`);
    } catch (error) {
      find("notice").textContent = error.message;
    }
  };
}

function showCorrections(corrections, news = "") {
  const { folder, images } = corrections;
  find("notice").textContent =
    `Corrections are on. Select ✓ beside the right class to keep this photograph and the class in ${folder}, ` +
    `with the metadata of the file, such as where it was taken. ` +
    `${images} ${images === 1 ? "photograph is" : "photographs are"} kept. ${news}`;
  find("forget").disabled = images === 0;
  find("privacy").textContent =
    `The photographs stay on this machine. Only those that you correct are stored, in ${folder}.`;
}

async function forget() {
  if (!window.confirm("Delete all kept photographs and their classes?")) return;
  const { corrections } = await deleteCorrections();
  for (const result of [shown, ...(batch?.answered ?? [])]) result.kept = {};
  markKept({});
  showCorrections(corrections, "All corrections are deleted.");
}

async function openExample(address, number) {
  const blob = await (await fetch(address)).blob();
  await open([new File([blob], `drawn-${number + 1}.jpg`, { type: blob.type })]);
}

function offerExamples() {
  const buttons = settings.examples.map((address, number) => {
    const image = make("img", { src: address, alt: `Drawn person ${number + 1}` });
    return make("button", { type: "button", onclick: () => openExample(address, number) }, image);
  });
  find("examples").replaceChildren(...buttons);
}

function showModels() {
  const items = settings.models.map((model, number) => {
    const letter = make("span", { className: `letter model-${number}` }, "AB"[number]);
    return make("li", {}, ...(settings.models.length > 1 ? [letter] : []), make("code", {}, model));
  });
  find("models").replaceChildren(...items);
}

function listen() {
  const drop = find("drop");
  const choose = (list) => open([...list]);
  find("files").onchange = async (event) => {
    await choose(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  };
  find("camera").onclick = () => openCamera((file) => open([file]));
  find("forget").onclick = forget;
  document.onpaste = (event) => choose(event.clipboardData.files);
  document.ondragover = (event) => {
    event.preventDefault();
    drop.classList.add("over");
  };
  document.ondragleave = () => drop.classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    choose(event.dataTransfer.files);
  };
}

document.documentElement.style.setProperty("--accent", settings.colour);
showModels();
offerExamples();
if (settings.corrections) showCorrections(settings.corrections);
listen();
await openExample(settings.examples[0], 0);

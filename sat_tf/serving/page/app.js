// The page of `sat-tf serve`: a photograph goes in, a caption comes out, and every word
// shows the cell the model looked at. A sentence of one's own goes in too, and every word
// shows where the model finds it. No libraries, no build step, no other host.

const $ = (id) => document.getElementById(id);
const READABLE = ["image/jpeg", "image/png", "image/gif", "image/bmp"];
const MAX_BYTES = 8e6; // larger photographs are scaled down before they are sent
const MAX_SIDE = 2048;
const CELL = "#ffb03b";
const BEST = 5; // captions that are shown at first
// Nats, as in sat_tf/cli/explain.py: half as probable with this photograph as with others.
// Of words such as "the" the support is a little above 0 or below it.
const AGAINST = -0.7;
const OWN = ["own-error", "said", "found"]; // the answer to a sentence of one's own

let models = {};
let unable = ""; // why there is no model to ask, if there is none
let turns = 0; // photographs that were handed over; only the last one counts
let request = null; // the AbortController of the question that is under way
let asking = null; // and that of the sentence of one's own

start();

async function start() {
  try {
    const answer = await fetch("/page/models.json");
    if (!answer.ok) throw new Error(answer.status);
    models = await answer.json();
    if (Object.keys(models).length === 0) {
      unable = "The server has no model yet. Give it one, then reload this page.";
    }
  } catch {
    unable = "The server does not answer. Start it again and reload this page.";
  }
  if (unable) fail(unable);
  const select = $("model").querySelector("select");
  for (const [name, { version }] of Object.entries(models)) {
    select.append(new Option(`${name} (version ${version})`, name));
  }
  $("model").hidden = select.options.length === 0;
  select.onchange = () => {
    showExamples();
    if ($("photo").file) caption();
  };
  $("file").onchange = () => {
    if ($("file").files.length) take($("file").files[0]);
  };
  listenForFiles();
  listenToWords($("words"), $("where"));
  listenToWords($("said"), $("found"));
  $("own").onsubmit = (event) => {
    event.preventDefault();
    explain();
  };
  const isFolded = () => $("more").getAttribute("aria-expanded") === "false";
  $("more").onclick = () => unfold(isFolded());
  showExamples();
}

const model = () => $("model").querySelector("select").value;

function showExamples() {
  const buttons = (models[model()]?.examples ?? []).map((file) => {
    const url = `/page/examples/${[model(), file].map(encodeURIComponent).join("/")}`;
    const image = Object.assign(new Image(), { src: url, loading: "lazy" });
    image.alt = `Example ${file.replace(/\.\w+$/, "").replace(/[-_]+/g, " ")}`;
    const button = document.createElement("button");
    button.type = "button";
    button.append(image);
    button.onclick = () => take(fetchExample(url));
    return button;
  });
  $("examples").replaceChildren(...buttons);
  $("examples").hidden = buttons.length === 0;
}

async function fetchExample(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(answer.status);
  return answer.blob();
}

// A photograph comes from the button, a drop, the clipboard or an example.

function listenForFiles() {
  let depth = 0; // drag events come from every element under the pointer
  const mark = (change) => {
    depth = Math.max(0, change && depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  addEventListener("dragenter", () => mark(1));
  addEventListener("dragleave", () => mark(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    mark(0);
    if (event.dataTransfer.files.length) return take(event.dataTransfer.files[0]);
    tell("What was dropped is not a file. Save the image, then choose or drop that.");
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files[0]);
  });
}

// `source` is a file or the promise of one. Whatever it waits for, a newer one may have
// been handed over meanwhile.
async function take(source) {
  const turn = ++turns;
  const photo = $("photo");
  $("file").value = "";
  photo.file = null;
  photo.alt = "Your photograph";
  wait();
  let file = null;
  try {
    file = await source;
    if (turn !== turns) return;
    URL.revokeObjectURL(photo.src);
    photo.src = URL.createObjectURL(file);
    await photo.decode();
  } catch {
    if (turn !== turns) return;
    $("picture").hidden = true;
    return fail(
      file
        ? "This is not an image that a browser can show. Try a JPEG or a PNG."
        : "The server sent no example. See that it runs, then reload this page.",
    );
  }
  if (turn !== turns) return;
  $("picture").style.setProperty("--ratio", photo.naturalWidth / photo.naturalHeight);
  $("picture").hidden = false;
  photo.file = file;
  await caption();
}

async function caption() {
  if (unable) return fail(unable);
  wait();
  request = new AbortController();
  const { signal } = request;
  try {
    const row = await predict(
      knows("beam") ? "beam" : "serving_default",
      { b64: await encode($("photo")) },
      signal,
    );
    show(row);
  } catch (error) {
    if (!signal.aborted) fail(error.message);
  }
}

const knows = (signature) => models[model()].signatures.includes(signature);

async function predict(signature_name, instance, signal) {
  const url = `/v1/models/${encodeURIComponent(model())}:predict`;
  const answer = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ signature_name, instances: [instance] }),
    signal,
  }).catch(() => {
    throw new Error("The server does not answer. Start it again, then try once more.");
  });
  const content = await answer.json().catch(() => null);
  const row = content?.predictions?.[0];
  const error = content?.error || row?.error;
  if (error) throw new Error(error);
  if (!row?.words) throw new Error(noAnswer(answer.status));
  return row;
}

// What comes instead of the server's JSON is mostly the page of a proxy.
function noAnswer(status) {
  const came = `Expected the server's answer; another came, with status ${status}.`;
  return status === 413
    ? `${came} Choose a smaller photograph.`
    : `${came} Wait a moment, then reload this page and try once more.`;
}

async function encode(photo) {
  const { file } = photo;
  const asItIs = READABLE.includes(file.type) && file.size <= MAX_BYTES;
  const reader = new FileReader();
  const read = new Promise((done, failed) => {
    reader.onload = done;
    reader.onerror = () =>
      failed(new Error("The file can no longer be read. Choose it again."));
  });
  reader.readAsDataURL(asItIs ? file : await redraw(photo));
  await read;
  return reader.result.slice(reader.result.indexOf(",") + 1);
}

// The photograph on show as a JPEG; on white, as sat_tf.images has it.
async function redraw(photo) {
  const { naturalWidth: width, naturalHeight: height } = photo;
  const scale = Math.min(1, MAX_SIDE / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(scale * width);
  canvas.height = Math.round(scale * height);
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  try {
    context.drawImage(photo, 0, 0, canvas.width, canvas.height);
    const jpeg = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
    if (jpeg) return jpeg;
  } catch {
    // An SVG may hold what a browser shows but does not give away.
  }
  throw new Error(
    "This browser cannot turn the image into a JPEG. Save it as a JPEG or a PNG, " +
      "then choose that file.",
  );
}

// The answer.

// Nothing of the last answer stays, and none that is under way will be shown.
function forget() {
  request?.abort();
  asking?.abort();
  const answers = ["error", "words", "where", "beams", "own"];
  for (const id of [...answers, ...OWN]) $(id).hidden = true;
  $("look").classList.remove("on");
  $("status").classList.remove("done", "busy");
  $("status").textContent = "";
}

function wait() {
  forget();
  $("status").textContent = "Looking…";
  $("status").classList.add("busy");
}

function fail(message) {
  forget();
  tell(message);
}

function tell(message) {
  $("error").textContent = message;
  $("error").hidden = false;
}

function show(row) {
  showWords($("words"), row, row.alpha, looked);
  $("where").textContent =
    "Move over a word, or tab to it, to see where the model looked.";
  $("where").hidden = false;
  $("status").textContent = `Caption: ${row.caption}`;
  $("status").classList.replace("busy", "done");
  $("photo").alt = `Your photograph. Caption: ${row.caption}`;
  showBeams(row);
  $("own").hidden = !knows("explain");
}

// Buttons in place of words; `maps` has a distribution over the cells for each, and
// `describe` says of it what it shows.
function showWords(group, row, maps, describe) {
  const words = row.words.slice(0, row.length);
  const buttons = words.map((word, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = word;
    button.cell = cell(row.locations[index], maps[index]);
    button.map = maps[index];
    button.told = describe(button, row, index);
    button.setAttribute("aria-label", `${word}: ${button.told}`);
    return button;
  });
  group.replaceChildren(...buttons);
  group.hidden = false;
}

function cell(location, map) {
  const nColumns = map[0].length;
  return [Math.floor(location / nColumns), location % nColumns];
}

function looked({ map, cell }) {
  return `looked at ${place(map, cell)}, with probability ${percent(map, cell)}%`;
}

function place(map, [row, column]) {
  return `row ${row + 1} of ${map.length}, column ${column + 1} of ${map[0].length}`;
}

function percent(map, [row, column]) {
  return Math.round(100 * map[row][column]);
}

// A sentence of one's own.

async function explain() {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  for (const id of OWN) $(id).hidden = true;
  $("found").textContent = "Looking…";
  $("found").hidden = false;
  try {
    const image_bytes = { b64: await encode($("photo")) };
    const caption = $("sentence").value;
    const row = await predict("explain", { image_bytes, caption }, signal);
    showWords($("said"), row, row.evidence, found);
    $("found").textContent = summary(row);
    $("status").textContent = $("found").textContent; // read out
  } catch (error) {
    if (signal.aborted) return;
    $("found").hidden = true;
    $("own-error").textContent = error.message;
    $("own-error").hidden = false;
  }
}

function found(button, { known, support }, index) {
  const { map, cell } = button;
  if (!known[index]) {
    button.classList.add("unknown");
    button.map = null; // of a word it does not know, it has nothing to show
    return "a word that the model does not know";
  }
  if (support[index] < AGAINST) {
    button.classList.add("against");
    return `not in the picture; most like it is ${place(map, cell)}`;
  }
  return `found at ${place(map, cell)}, with probability ${percent(map, cell)}%`;
}

function summary({ words, length, known, support }) {
  const list = (which) => {
    const chosen = words.slice(0, length).filter((_, index) => which(index));
    return chosen.map((word) => `“${word}”`).join(", ");
  };
  const unknown = list((i) => !known[i]);
  const against = list((i) => known[i] && support[i] < AGAINST);
  return [
    against ? `Not in the picture: ${against}.` : "",
    unknown ? `Unknown to the model: ${unknown}.` : "",
    "Move over a word, or tab to it, to see where the model finds it.",
  ]
    .filter(Boolean)
    .join(" ");
}

function showBeams({ beam_captions: captions = [], beam_scores: scores }) {
  const cards = captions.map((caption, index) => {
    const card = document.createElement("li");
    const score = document.createElement("small");
    score.textContent = `score ${scores[index].toFixed(2)}`;
    card.append(caption, score);
    return card;
  });
  $("captions").replaceChildren(...cards);
  $("beams").hidden = cards.length < 2;
  $("more").hidden = cards.length <= BEST;
  unfold(false);
}

function unfold(all) {
  const cards = [...$("captions").children];
  cards.forEach((card, index) => (card.hidden = !all && index >= BEST));
  $("more").setAttribute("aria-expanded", all);
  $("more").textContent = all ? `Show the best ${BEST}` : `Show all ${cards.length}`;
}

// Moving over a word, focusing it or tapping it shows where the model looked, and `line`
// says it.

function listenToWords(group, line) {
  const word = (target) => (group.contains(target) ? target.closest("button") : null);
  const focused = () => word(document.activeElement);
  const show = (button) => look(button, line);
  group.addEventListener("pointerover", (event) => show(word(event.target)));
  group.addEventListener("pointerleave", () => show(focused()));
  group.addEventListener("focusin", (event) => show(word(event.target)));
  group.addEventListener("focusout", () => show(null));
  group.addEventListener("click", (event) => word(event.target)?.focus());
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: "next", ArrowLeft: "previous" }[event.key];
    focused()?.[`${step}ElementSibling`]?.focus();
  });
}

function look(button, line) {
  for (const other of document.querySelectorAll(".words button")) {
    other.classList.toggle("on", other === button);
  }
  $("look").classList.toggle("on", Boolean(button?.map));
  if (!button) return;
  line.textContent = `“${button.textContent}”: ${button.told}.`;
  if (button.map) draw(button.map, button.cell);
}

function draw(alpha, [row, column]) {
  const photo = $("photo");
  const canvas = $("look");
  canvas.width = photo.clientWidth * devicePixelRatio;
  canvas.height = photo.clientHeight * devicePixelRatio;
  const context = canvas.getContext("2d");
  const [x, y, width, height] = seen(photo, canvas);
  // Dark where the model does not look, and darkest where it cannot: outside its crop.
  context.fillStyle = "rgb(0 0 0 / 0.75)";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.clearRect(x, y, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(shade(alpha), x, y, width, height);
  const cellWidth = width / alpha[0].length;
  const cellHeight = height / alpha.length;
  context.lineWidth = 3 * devicePixelRatio;
  context.strokeStyle = CELL;
  context.strokeRect(
    x + column * cellWidth,
    y + row * cellHeight,
    cellWidth,
    cellHeight,
  );
}

// The distribution as a small image: black, clear where alpha is at its largest.
function shade(alpha) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [alpha[0].length, alpha.length];
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const largest = Math.max(...alpha.flat());
  alpha.flat().forEach((value, index) => {
    image.data[4 * index + 3] = 255 * 0.65 * (1 - value / largest);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

// The part of the photograph that the model sees, [x, y, width, height] in pixels of
// the canvas: all of it, or the centre crop of sat_tf.images.resize.
function seen(photo, canvas) {
  const { image_size: size, resize_mode: mode } = models[model()].preprocessing;
  if (mode !== "crop") return [0, 0, canvas.width, canvas.height];
  const [height, width] = size;
  const scale =
    (256 / 224) * Math.max(height / photo.naturalHeight, width / photo.naturalWidth);
  const zoom = canvas.width / photo.naturalWidth / scale;
  return [
    (canvas.width - width * zoom) / 2,
    (canvas.height - height * zoom) / 2,
    width * zoom,
    height * zoom,
  ];
}

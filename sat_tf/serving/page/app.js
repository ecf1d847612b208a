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
let request = null; // the AbortController of the question that is under way
let asking = null; // and that of the sentence of one's own

start();

async function start() {
  try {
    models = await (await fetch("/page/models.json")).json();
  } catch {
    return fail("The server does not answer. Start it again and reload this page.");
  }
  const select = $("model").querySelector("select");
  for (const [name, { version }] of Object.entries(models)) {
    select.append(new Option(`${name} (version ${version})`, name));
  }
  $("model").hidden = select.options.length === 0;
  select.onchange = () => {
    showExamples();
    if ($("photo").file) caption();
  };
  $("file").onchange = () => take($("file").files[0]);
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
    button.onclick = async () => take(await (await fetch(url)).blob());
    return button;
  });
  $("examples").replaceChildren(...buttons);
  $("examples").hidden = buttons.length === 0;
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
    take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files[0]);
  });
}

async function take(file) {
  $("file").value = "";
  if (!file) return;
  forget();
  const photo = $("photo");
  URL.revokeObjectURL(photo.src);
  photo.src = URL.createObjectURL(file);
  photo.alt = "Your photograph";
  try {
    await photo.decode();
  } catch {
    $("picture").hidden = true;
    photo.file = null;
    return fail("This is not an image that a browser can show. Try a JPEG or a PNG.");
  }
  $("picture").style.setProperty("--ratio", photo.naturalWidth / photo.naturalHeight);
  $("picture").hidden = false;
  photo.file = file;
  await caption();
}

async function caption() {
  forget();
  request?.abort();
  request = new AbortController();
  const { signal } = request;
  $("status").textContent = "Looking…";
  $("status").classList.add("busy");
  try {
    const row = await predict(
      knows("beam") ? "beam" : "serving_default",
      { b64: await encode($("photo").file) },
      signal,
    );
    show(row);
  } catch (error) {
    if (!signal.aborted) fail(error.message);
  }
  if (!signal.aborted) $("status").classList.remove("busy");
}

const knows = (signature) => models[model()].signatures.includes(signature);

async function predict(signature_name, instance, signal) {
  const answer = await fetch(`/v1/models/${encodeURIComponent(model())}:predict`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ signature_name, instances: [instance] }),
    signal,
  });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  const [row] = content.predictions;
  if (row.error) throw new Error(row.error);
  return row;
}

async function encode(file) {
  if (!READABLE.includes(file.type) || file.size > MAX_BYTES) file = await redraw(file);
  const reader = new FileReader();
  reader.readAsDataURL(file);
  await new Promise((done) => (reader.onload = done));
  return reader.result.slice(reader.result.indexOf(",") + 1);
}

async function redraw(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(scale * bitmap.width);
  canvas.height = Math.round(scale * bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
}

// The answer.

function forget() {
  asking?.abort();
  const answers = ["error", "words", "where", "beams", "own"];
  for (const id of [...answers, ...OWN]) $(id).hidden = true;
  $("look").classList.remove("on");
  $("status").classList.remove("done");
}

function fail(message) {
  forget();
  $("status").textContent = "";
  $("error").textContent = message;
  $("error").hidden = false;
}

function show(row) {
  showWords($("words"), row, row.alpha, looked);
  $("where").textContent =
    "Move over a word, or tab to it, to see where the model looked.";
  $("where").hidden = false;
  $("status").textContent = `Caption: ${row.caption}`;
  $("status").classList.add("done");
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
    const image_bytes = { b64: await encode($("photo").file) };
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

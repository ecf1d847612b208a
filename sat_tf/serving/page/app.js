// The page of `sat-tf serve`: a photograph goes in, a caption comes out, and every word
// shows the cell the model looked at. No libraries, no build step, no other host.

const $ = (id) => document.getElementById(id);
const READABLE = ["image/jpeg", "image/png", "image/gif", "image/bmp"];
const MAX_BYTES = 8e6; // larger photographs are scaled down before they are sent
const MAX_SIDE = 2048;
const CELL = "#ffb03b";
const BEST = 5; // captions that are shown at first

let models = {};
let current = null; // {row, shown}: the model's answer and the word shown now
let request = null; // the AbortController of the question that is under way

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
  listenToWords();
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
    const row = await predict(await encode($("photo").file), signal);
    if (row.error) throw new Error(row.error);
    show(row);
  } catch (error) {
    if (!signal.aborted) fail(error.message);
  }
  if (!signal.aborted) $("status").classList.remove("busy");
}

async function predict(b64, signal) {
  const beam = models[model()].signatures.includes("beam");
  const answer = await fetch(`/v1/models/${encodeURIComponent(model())}:predict`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      signature_name: beam ? "beam" : "serving_default",
      instances: [{ b64 }],
    }),
    signal,
  });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content.predictions[0];
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
  current = null;
  for (const id of ["error", "words", "where", "beams"]) $(id).hidden = true;
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
  current = { row, shown: null };
  const words = row.words.slice(0, row.length);
  $("words").replaceChildren(...words.map(wordButton));
  $("words").hidden = false;
  $("where").textContent =
    "Move over a word, or tab to it, to see where the model looked.";
  $("where").hidden = false;
  $("status").textContent = `Caption: ${row.caption}`;
  $("status").classList.add("done");
  $("photo").alt = `Your photograph. Caption: ${row.caption}`;
  showBeams(row);
}

function wordButton(word, index) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = word;
  button.dataset.index = index;
  button.setAttribute("aria-label", `${word}: ${describe(index)}`);
  return button;
}

function describe(index) {
  const alpha = current.row.alpha[index];
  const [row, column] = cell(index);
  const percent = Math.round(100 * alpha[row][column]);
  return (
    `looked at row ${row + 1} of ${alpha.length}, ` +
    `column ${column + 1} of ${alpha[0].length}, with probability ${percent}%`
  );
}

function cell(index) {
  const nColumns = current.row.alpha[index][0].length;
  const location = current.row.locations[index];
  return [Math.floor(location / nColumns), location % nColumns];
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

// Moving over a word, focusing it or tapping it shows where the model looked.

function listenToWords() {
  const words = $("words");
  const word = (target) => target?.closest?.("#words button");
  const focused = () => word(document.activeElement);
  words.addEventListener("pointerover", (event) => look(word(event.target)));
  words.addEventListener("pointerleave", () => look(focused()));
  words.addEventListener("focusin", (event) => look(word(event.target)));
  words.addEventListener("focusout", () => look(null));
  words.addEventListener("click", (event) => word(event.target)?.focus());
  words.addEventListener("keydown", (event) => {
    const step = { ArrowRight: "next", ArrowLeft: "previous" }[event.key];
    focused()?.[`${step}ElementSibling`]?.focus();
  });
}

function look(button) {
  for (const other of $("words").children) {
    other.classList.toggle("on", other === button);
  }
  $("look").classList.toggle("on", Boolean(button));
  if (!button) return;
  const index = Number(button.dataset.index);
  $("where").textContent = `“${button.textContent}”: ${describe(index)}.`;
  draw(current.row.alpha[index], cell(index));
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

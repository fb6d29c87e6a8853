// The page: joins what is shown, what the reader does, and what is kept.
const { byId, say } = dom;
const { images } = report;
const kept = new decisions.Decisions(report);
const decisionOf = (index) => kept.of(images[index]);
const counted = (count) => `${count.toLocaleString("en")} image${count === 1 ? "" : "s"}`;

// How images are drawn. An address may ask for what there is not

// The layer that is shown while a key or button is held, null otherwise
let held = null;
const isLayer = (id) => report.layers.some((layer) => layer.id === id);
const percentOf = (text) => Math.min(100, Math.max(0, Number(text) || 0));

function look() {
  const { layer, lines, opacity: percent, colours: palette } = state.get();
  return {
    layer: held ?? (isLayer(layer) ? layer : "label"),
    isHeld: held !== null,
    lines: held ? [] : lines.split(",").filter(isLayer),
    opacity: percentOf(percent) / 100,
    colours: Object.hasOwn(report.palettes, palette) ? palette : "distinct",
    only: null,
  };
}

function redraw() {
  gallery.setLook(look());
  viewer.setLook(look());
}

function hold(layer) {
  if (held === layer || (layer !== null && !isLayer(layer))) return;
  held = layer;
  redraw();
}

function change(values) {
  const before = look().colours;
  state.set(values);
  controls();
  if (look().colours !== before) figures.recolour(look().colours);
  redraw();
}

const opacity = (percent) => change({ opacity: String(percentOf(percent)) });

function chooseLayer(layer) {
  change({ layer });
  say(report.layers.find((each) => each.id === layer).title);
}

function toggleLine(layer) {
  const lines = new Set(look().lines);
  if (!lines.delete(layer)) lines.add(layer);
  change({ lines: [...lines].join(",") });
  say(`outlines: ${[...lines].join(", ") || "none"}`);
}

// Which images are listed

function list() {
  gallery.show(listing.of(images, state.get(), decisionOf));
  const count = gallery.order().length;
  const all = counted(images.length);
  byId("count").textContent =
    count === images.length ? all : `${count.toLocaleString("en")} of ${all}`;
}

function filter(values) {
  state.set(values);
  controls();
  list();
  scrollTo({ top: Math.min(scrollY, byId("toolbar").offsetTop), behavior: "instant" });
  say(byId("count").textContent);
}

// The open image

function open(index) {
  state.push({ image: images[index].id, at: "" });
  viewer.show(index);
}

function step(by) {
  const order = gallery.order();
  const next = order[order.indexOf(viewer.index()) + by];
  if (next === undefined) return;
  state.set({ image: images[next].id, at: "" });
  viewer.show(next);
}

function close() {
  const index = viewer.index();
  viewer.close();
  state.leave();
  gallery.focus(index);
}

// Decisions

function decide(index, decision) {
  if (index === null) return;
  const isTaken = decisionOf(index).decision === decision;
  kept.set(images[index], { decision: isTaken ? "" : decision });
  say(`${images[index].id}: ${isTaken ? "undecided" : `${decision}ed`}`);
}

function tally() {
  const all = images.map((image) => kept.of(image));
  const count = (isCounted) => all.filter(isCounted).length;
  const accepted = count(({ decision }) => decision === "accept");
  const rejected = count(isRejected);
  byId("progress").textContent =
    accepted + rejected ? `· ${accepted} accepted, ${rejected} rejected` : "";
  for (const [id, name, found] of [
    ["export-reject", "Rejected", rejected],
    ["export-all", "All decisions and notes", count(isNoted)],
  ]) {
    byId(id).textContent = `${name} (${found})`;
    byId(id).disabled = found === 0;
  }
  byId("export-kept").hidden = !kept.isKept;
  byId("export-lost").hidden = kept.isKept;
}

const isRejected = ({ decision }) => decision === "reject";
const isNoted = ({ decision, note }) => Boolean(decision || note);

// Downloads a worklist of all images that are wanted, listed or not
function exported(isWanted, name) {
  const rows = listing
    .sorted(images, state.get().sort)
    .map((index) => ({ ...decisionOf(index), id: images[index].id }))
    .filter(isWanted);
  const address = URL.createObjectURL(new Blob([decisions.csv(rows)], { type: "text/csv" }));
  dom.make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  say(`${name}: ${counted(rows.length)}`);
}

// Controls

function controls() {
  const now = { ...state.get(), ...look(), opacity: percentOf(state.get().opacity) };
  for (const id of ["sort", "show", "colours", "find", "opacity"]) byId(id).value = now[id];
  if (held === null) byId("layer").value = now.layer;
  const view = now.view === "steps" ? "steps" : "grid";
  for (const radio of byId("view").querySelectorAll("input")) radio.checked = radio.value === view;
  for (const button of byId("classes").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.value === now.class));
  }
  gallery.setView(view);
}

function classButton(value, swatch, name, count) {
  const button = dom.make(
    "button",
    { type: "button", "data-value": value, "aria-pressed": "false" },
    ...swatch,
    dom.make("span", {}, name),
    dom.make("span", { class: "soft" }, count.toLocaleString("en")),
  );
  // A second click takes the choice back
  button.addEventListener("click", () =>
    filter({ class: state.get().class === String(value) ? "" : String(value) }),
  );
  return button;
}

function classes() {
  const counts = new Map();
  for (const value of images.flatMap((image) => image.classes)) {
    if (value !== colours.NO_CLASS) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  const rows = [...counts].sort(([a], [b]) => a - b);
  byId("class-list").replaceChildren(
    classButton("", [], "All classes", images.length),
    ...rows.map(([value, count]) =>
      classButton(value, [figures.swatch(value)], report.className(value), count),
    ),
  );
}

function listen() {
  const on = (id, event, act) => byId(id).addEventListener(event, ({ target }) => act(target));
  for (const id of ["sort", "show"]) on(id, "change", ({ value }) => filter({ [id]: value }));
  on("find", "input", ({ value }) => filter({ find: value }));
  on("layer", "change", ({ value }) => chooseLayer(value));
  on("colours", "change", ({ value }) => change({ colours: value }));
  on("opacity", "input", ({ value }) => opacity(value));
  on("view", "change", ({ value }) => change({ view: value }));
  on("more", "click", () => {
    const isOpen = byId("toolbar").classList.toggle("opened");
    byId("more").setAttribute("aria-expanded", String(isOpen));
  });
  for (const id of ["compare", "viewer-compare"]) gestures.holdButton(byId(id), holdImage);
  on("open-help", "click", () => byId("help").showModal());
  on("open-export", "click", () => byId("export").showModal());
  on("export-reject", "click", () => exported(isRejected, "worklist.csv"));
  on("export-all", "click", () => exported(isNoted, "decisions.csv"));
}

const holdImage = (isHeld) => hold(isHeld ? "none" : null);

function listenToKeys() {
  const current = () => (viewer.isOpen() ? viewer.index() : gallery.current());
  const calls = {
    move: (by) => (viewer.isOpen() ? step(by) : gallery.move(by)),
    moveRow: (by) => gallery.move(by * gallery.across()),
    open: () => open(gallery.current()),
    decide: (decision) => decide(current(), decision),
    note: () => {
      if (!viewer.isOpen() && current() !== null) open(current());
      byId("note").focus();
    },
    layer: (position, isOutline) => {
      const id = report.layers[position]?.id;
      if (id && !isOutline) chooseLayer(id);
      else if (id && report.hasOutlines(id)) toggleLine(id);
    },
    strengthen: (by) => opacity(percentOf(state.get().opacity) + by),
    hold,
    find: () => viewer.isOpen() || byId("find").focus(),
    help: () => byId("help").showModal(),
  };
  keys.listen(calls, () => byId("help").open || byId("export").open, viewer.key);
}

// Start

function apply() {
  controls();
  figures.recolour(look().colours);
  list();
  redraw();
  const { image, at } = state.get();
  const index = images.findIndex((each) => each.id === image);
  if (image === "" || index < 0) {
    if (viewer.isOpen()) viewer.close();
    return;
  }
  const place = at.split(",").map(Number);
  viewer.show(index, place.length === 3 && place.every(Number.isFinite) ? place : null);
}

function decided() {
  images.forEach((_, index) => gallery.mark(index));
  viewer.mark();
  tally();
}

function startViewer() {
  viewer.start({
    decide,
    decision: decisionOf,
    earlier: (index) => kept.earlier(images[index]),
    note: (index, note) => kept.set(images[index], { note }),
    order: gallery.order,
    step,
    close,
    opacity,
    layer: chooseLayer,
    line: toggleLine,
    hold: holdImage,
    moved: (place) => state.set({ at: place?.map((part) => part.toFixed(4)).join(",") ?? "" }),
  });
}

function start() {
  for (const { id, title } of report.layers) {
    byId("layer").append(dom.make("option", { value: id }, title));
  }
  for (const option of document.querySelectorAll("[data-scored]")) {
    option.hidden = option.disabled = !report.scored;
  }
  gallery.start({ decide, decision: decisionOf, open }, look());
  startViewer();
  kept.listeners.push(decided);
  classes();
  listen();
  listenToKeys();
  tally();
  byId("classes").hidden = byId("toolbar").hidden = false;
  apply();
  state.listen(apply);
  // The page may be shown while the elements of later images still load
  document.addEventListener("DOMContentLoaded", () => {
    gallery.loaded();
    viewer.loaded();
  });
}

if (maps.canDecode) start();
else byId("outdated").hidden = false;

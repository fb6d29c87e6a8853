// The page: what is shown, in which order, and what keys and controls do.
const { byId, say } = dom;
const kept = new decisions.Decisions(report);
const decisionOf = (index) => kept.of(report.images[index]);
// The layer that is shown while a key or button is held, null otherwise
let held = null;

const percentOf = (text) => Math.min(100, Math.max(0, Number(text) || 0));
// An address can say anything
const chosen = (table, name, fallback) => table[Object.hasOwn(table, name) ? name : fallback];

function look() {
  const { layer, lines, opacity, colours: palette } = state.get();
  const isKnown = (id) => report.layers.some((each) => each.id === id);
  return {
    layer: held ?? (isKnown(layer) ? layer : "label"),
    held: held !== null,
    lines: held ? [] : lines.split(",").filter(isKnown),
    opacity: percentOf(opacity) / 100,
    colours: Object.hasOwn(report.palettes, palette) ? palette : "distinct",
    only: null,
  };
}

// Which images, in which order. Smaller keys come first; images without the figure come last

const known = (figure, value) => (image) => (image[figure] === null ? Infinity : value(image));
const SORTS = {
  changed: known("changed", (image) => -image.changed),
  confidence: known("confidence", (image) => image.confidence),
  gain: known("after", (image) => image.before - image.after),
  loss: known("after", (image) => image.after - image.before),
  after: known("after", (image) => image.after),
};
const SHOWN = {
  all: () => true,
  undecided: ({ decision }) => !decision,
  accept: ({ decision }) => decision === "accept",
  reject: ({ decision }) => decision === "reject",
  note: ({ note }) => note !== "",
};

function comparison(sort) {
  const alphabet = new Intl.Collator("en", { numeric: true });
  if (sort === "name") return (a, b) => alphabet.compare(report.images[a].id, report.images[b].id);
  const keys = report.images.map(chosen(SORTS, sort, "changed"));
  return (a, b) => (keys[a] === keys[b] ? a - b : keys[a] - keys[b]);
}

function wanted() {
  const { sort, show, class: value, find } = state.get();
  const text = find.trim().toLowerCase();
  const isShown = chosen(SHOWN, show, "all");
  return report.images.map((_, index) => index).filter((index) =>
    isShown(decisionOf(index)) &&
    (value === "" || report.images[index].classes.includes(Number(value))) &&
    report.images[index].id.toLowerCase().includes(text)).sort(comparison(sort));
}

const images = (count) => `${count.toLocaleString("en")} image${count === 1 ? "" : "s"}`;

function list() {
  gallery.show(wanted());
  const count = gallery.order().length;
  byId("count").textContent = count === report.images.length ? images(count)
    : `${count.toLocaleString("en")} of ${images(report.images.length)}`;
}

function tally() {
  const all = report.images.map((image) => kept.of(image).decision);
  const count = (decision) => all.filter((each) => each === decision).length;
  const [accepted, rejected] = [count("accept"), count("reject")];
  byId("progress").textContent = accepted + rejected ? `· ${accepted} accepted, ${rejected} rejected` : "";
  const noted = report.images.filter((image) => kept.of(image).decision || kept.of(image).note).length;
  byId("export-reject").textContent = `Rejected (${rejected})`;
  byId("export-reject").disabled = !rejected;
  byId("export-all").textContent = `All decisions and notes (${noted})`;
  byId("export-all").disabled = !noted;
  if (!kept.isKept) byId("export-kept").textContent = "This browser keeps nothing for this page: export before you close it.";
}

// What the reader does

function change(values) {
  const before = look().colours;
  state.set(values);
  controls();
  if (look().colours !== before) figures.recolour(look().colours);
  const next = look();
  gallery.setLook(next);
  viewer.setLook(next);
}

function hold(layer) {
  if (held === layer) return;
  held = layer;
  const next = look();
  gallery.setLook(next);
  viewer.setLook(next);
}

function filter(values) {
  state.set(values);
  controls();
  list();
  scrollTo({ top: Math.min(scrollY, byId("toolbar").offsetTop), behavior: "instant" });
  say(byId("count").textContent);
}

function toggleLine(layer) {
  const lines = new Set(look().lines);
  if (!lines.delete(layer)) lines.add(layer);
  change({ lines: [...lines].join(",") });
  say(`outlines: ${[...lines].join(", ") || "none"}`);
}

function chooseLayer(layer) {
  change({ layer });
  say(report.layers.find((each) => each.id === layer).title);
}

function decide(index, decision) {
  if (index === null) return;
  const isTaken = decisionOf(index).decision === decision;
  kept.set(report.images[index], { decision: isTaken ? "" : decision });
  say(`${report.images[index].id}: ${isTaken ? "undecided" : `${decision}ed`}`);
}

function opacity(percent) {
  change({ opacity: String(percentOf(percent)) });
}

function open(index) {
  state.push({ image: report.images[index].id, at: "" });
  viewer.show(index);
}

function step(by) {
  const order = gallery.order();
  const next = order[order.indexOf(viewer.index()) + by];
  if (next === undefined) return;
  state.set({ image: report.images[next].id, at: "" });
  viewer.show(next);
}

function close() {
  const index = viewer.index();
  viewer.close();
  // The entry that opening it has put into the history goes away again
  if (history.state?.pushed) history.back();
  else state.set({ image: "", at: "" });
  gallery.focus(index);
}

// A worklist of all images that are wanted, shown or not
function exported(isWanted, name) {
  const rows = report.images.map((_, index) => index).sort(comparison(state.get().sort));
  const lines = rows.map((index) => ({ ...decisionOf(index), id: report.images[index].id })).filter(isWanted);
  const address = URL.createObjectURL(new Blob([decisions.csv(lines)], { type: "text/csv" }));
  dom.make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  say(`${name}: ${images(lines.length)}`);
}

// Keys

function keys() {
  const focusNote = () => {
    if (!viewer.isOpen() && gallery.current() !== null) open(gallery.current());
    byId("note").focus();
  };
  const index = () => (viewer.isOpen() ? viewer.index() : gallery.current());
  const move = (by, down = 0) => (viewer.isOpen() ? step(by) : gallery.move(by + down * gallery.across()));
  const acts = {
    ArrowRight: () => move(1), j: () => move(1), ArrowLeft: () => move(-1), k: () => move(-1),
    a: () => decide(index(), "accept"), r: () => decide(index(), "reject"), n: focusNote,
    "[": () => opacity(percentOf(state.get().opacity) - 10), "]": () => opacity(percentOf(state.get().opacity) + 10),
    c: () => hold("none"), b: () => hold("pseudo_label"),
    "/": () => { if (!viewer.isOpen()) byId("find").focus(); },
    "?": () => byId("help").showModal(),
  };
  const down = { ArrowDown: () => move(0, 1), ArrowUp: () => move(0, -1), Enter: () => open(gallery.current()) };

  function layerKey(event) {
    const number = /^Digit([1-9])$/.exec(event.code)?.[1] ?? (/^[1-9]$/.test(event.key) ? event.key : null);
    const layer = number && report.layers[number - 1]?.id;
    if (!layer) return false;
    if (!event.shiftKey) chooseLayer(layer);
    else if (report.LABELS.includes(layer) || layer === "masks") toggleLine(layer);
    return true;
  }

  function inGallery(event) {
    const isCard = document.activeElement?.matches("article");
    if (viewer.isOpen() || !down[event.key] || (event.key === "Enter" && !isCard)) return false;
    if (event.key !== "Enter" && !document.activeElement?.closest("article")) return false;
    down[event.key]();
    return true;
  }

  document.addEventListener("keydown", (event) => {
    const field = event.target.closest?.("input, select");
    const isTyping = field && !["radio", "range"].includes(field.type);
    const isBusy = byId("help").open || byId("export").open;
    if (isTyping && event.key === "Enter" && field.id === "note") field.blur();
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping || isBusy) return;
    // Arrows move the slider and the radio buttons
    if (field && event.key.startsWith("Arrow") && !event.shiftKey) return;
    const act = acts[event.key];
    if ((viewer.isOpen() && viewer.key(event)) || layerKey(event) || inGallery(event)) event.preventDefault();
    else if (act) {
      event.preventDefault();
      act();
    }
  });
  document.addEventListener("keyup", (event) => { if (event.key === "c" || event.key === "b") hold(null); });
  addEventListener("blur", () => hold(null));
}

// Controls

function controls() {
  const now = { ...state.get(), layer: look().layer, colours: look().colours };
  now.opacity = percentOf(now.opacity);
  for (const id of ["sort", "show", "colours", "find", "opacity"]) byId(id).value = now[id];
  if (held === null) byId("layer").value = now.layer;
  for (const radio of byId("view").querySelectorAll("input")) radio.checked = radio.value === now.view;
  for (const button of byId("classes").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.value === now.class));
  }
  gallery.setView(now.view === "steps" ? "steps" : "grid");
}

function classes() {
  const counts = new Map();
  for (const image of report.images) for (const value of image.classes) counts.set(value, (counts.get(value) ?? 0) + 1);
  counts.delete(colours.NO_CLASS);
  const row = (value, swatch, name, count) => {
    const button = dom.make("button", { type: "button", "data-value": value, "aria-pressed": "false" },
      ...swatch, dom.make("span", {}, name), dom.make("span", { class: "soft" }, count.toLocaleString("en")));
    button.addEventListener("click", () => filter({ class: state.get().class === String(value) ? "" : String(value) }));
    return button;
  };
  byId("class-list").replaceChildren(row("", [], "All classes", report.images.length),
    ...[...counts].sort(([a], [b]) => a - b).map(([value, count]) =>
      row(value, [figures.swatch(value)], report.className(value), count)));
}

function listen() {
  for (const id of ["sort", "show"]) byId(id).addEventListener("change", (event) => filter({ [id]: event.target.value }));
  byId("find").addEventListener("input", (event) => filter({ find: event.target.value }));
  byId("layer").addEventListener("change", (event) => chooseLayer(event.target.value));
  byId("colours").addEventListener("change", (event) => change({ colours: event.target.value }));
  byId("opacity").addEventListener("input", (event) => opacity(Number(event.target.value)));
  byId("view").addEventListener("change", (event) => change({ view: event.target.value }));
  byId("more").addEventListener("click", () => {
    const isOpen = byId("toolbar").classList.toggle("opened");
    byId("more").setAttribute("aria-expanded", String(isOpen));
  });
  for (const id of ["compare", "viewer-compare"]) gestures.holdButton(byId(id), (isHeld) => hold(isHeld ? "none" : null));
  byId("open-help").addEventListener("click", () => byId("help").showModal());
  byId("open-export").addEventListener("click", () => byId("export").showModal());
  byId("export-reject").addEventListener("click", () => exported(({ decision }) => decision === "reject", "worklist.csv"));
  byId("export-all").addEventListener("click", () => exported(({ decision, note }) => decision || note, "decisions.csv"));
}

// Start

function apply() {
  controls();
  figures.recolour(look().colours);
  list();
  change({});
  const { image, at } = state.get();
  const index = image === "" ? -1 : report.images.findIndex((each) => each.id === image);
  if (index < 0) {
    if (viewer.isOpen()) viewer.close();
    return;
  }
  const place = at.split(",").map(Number);
  viewer.show(index, place.length === 3 && place.every(Number.isFinite) ? place : null);
}

function start() {
  for (const { id, title } of report.layers) byId("layer").append(dom.make("option", { value: id }, title));
  for (const option of document.querySelectorAll("[data-scored]")) option.hidden = option.disabled = !report.scored;
  const shared = { decide, decision: decisionOf };
  gallery.start({ ...shared, open }, look(), state.get().view);
  viewer.start({
    ...shared, order: gallery.order, step, close, opacity, layer: chooseLayer, line: toggleLine,
    hold: (isHeld) => hold(isHeld ? "none" : null),
    earlier: (index) => kept.earlier(report.images[index]),
    note: (index, note) => kept.set(report.images[index], { note }),
    moved: (place) => state.set({ at: place ? place.map((part) => Number(part.toFixed(4))).join(",") : "" }),
  });
  kept.listeners.push(() => {
    report.images.forEach((_, index) => gallery.mark(index));
    viewer.mark();
    tally();
  });
  classes();
  byId("classes").hidden = byId("toolbar").hidden = false;
  listen();
  keys();
  tally();
  apply();
  state.listen(apply);
  document.addEventListener("DOMContentLoaded", () => {
    gallery.loaded();
    viewer.loaded();
  });
}

start();

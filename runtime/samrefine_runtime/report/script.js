"use strict";
(() => {
  // The page's index: classes, colours, layers, and one row per shown image (see page.py)
  const report = JSON.parse(document.getElementById("report").textContent);
  const layers = Object.keys(report.layers);
  // Where a row of entry.pixels has which count
  const at = Object.fromEntries(report.columns.map((name, index) => [name, index]));
  const scored = report.images.some((image) => image.after !== null);
  const hidden = new Set();
  let order = report.images.map((_, index) => index);
  let page = 0;

  const byId = (id) => document.getElementById(id);
  const say = (text) => { byId("said").textContent = text; };
  const className = (value) => report.classes[value] ?? `class ${value}`;
  const percent = (fraction) => `${(100 * fraction).toFixed(fraction < 0.1 ? 1 : 0)}%`;
  const points = (fraction) => (100 * fraction).toFixed(1);
  const signed = (fraction) => `${fraction < 0 ? "−" : "+"}${points(Math.abs(fraction))}`;

  // A smaller gain is printed as 0.0 points, so it is neither up nor down
  const leastGain = 0.0005;
  // Classes that the caption of the activation names, as many as its picture shows
  const strongestClasses = 3;

  // Text enters the page as text nodes and attributes only, never as markup, which names could hold
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function swatch(value) {
    const element = make("span", { class: "swatch" });
    element.style.background = `rgb(${report.colours[value].join(",")})`;
    return element;
  }

  // Figures of one image

  const area = (entry) => entry.image_shape[0] * entry.image_shape[1];
  const foreground = (entry) => entry.pixels.filter((row) => row[at.class] > 0);

  function iou(row, label) {
    const hits = row[at[`hit_${label}`]];
    const union = row[at.truth] + row[at[`pred_${label}`]] - hits;
    return union > 0 ? hits / union : null;
  }

  function chips(entry) {
    return foreground(entry).map((row) => {
      const name = className(row[at.class]);
      const values = entry.scored
        ? ["before", "after"].map((label) => iou(row, label)).map((value) => (value === null ? "–" : points(value)))
        : ["before", "after"].map((label) => percent(row[at[label]] / area(entry)));
      return make("span", {}, swatch(row[at.class]), `${name} ${values.join(" → ")}`);
    });
  }

  function numbers(entry, row) {
    const found = [];
    if (row.after !== null) {
      const gain = row.after - row.before;
      const tone = Math.abs(gain) < leastGain ? "same" : gain > 0 ? "up" : "down";
      found.push(make("span", {}, `mIoU ${points(row.before)} → `, make("strong", {}, points(row.after)),
        " ", make("strong", { class: tone }, signed(gain))));
    }
    if (entry.changed !== null) found.push(make("span", {}, `${percent(entry.changed)} changed`));
    if (entry.seconds !== null) found.push(make("span", {}, `${entry.seconds.toFixed(1)} s`));
    return found;
  }

  // "cat 12%" for each class that a label map holds
  function parts(entry, column) {
    const rows = foreground(entry).filter((row) => row[at[column]] > 0);
    return rows.map((row) => `${className(row[at.class])} ${percent(row[at[column]] / area(entry))}`);
  }

  function strongest(entry) {
    const known = Object.entries(entry.probabilities).sort((a, b) => b[1] - a[1]).slice(0, strongestClasses);
    return known.map(([value, probability]) => `${className(value)} ${percent(probability)}`);
  }

  function names(entry, column) {
    return parts(entry, column).join(", ") || "background only";
  }

  // The short line below a picture, and the long one for its alternative text
  function captions(entry, row, layer) {
    const miou = (value, column) =>
      row.after === null ? `${percent(covered(entry, column))} labelled` : `mIoU ${points(value)}`;
    switch (layer) {
      case "image": return [`${entry.image_shape[1]} × ${entry.image_shape[0]}`, ""];
      case "cam": return [strongest(entry).join(", "), strongest(entry).join(", ") || "no class"];
      case "masks": return [String(entry.masks ?? ""), `${entry.masks} masks`];
      case "pseudo_label": return [miou(row.before, "before"), names(entry, "before")];
      case "label": return [miou(row.after, "after"), names(entry, "after")];
      default: return ["", names(entry, "truth")];
    }
  }

  const covered = (entry, column) =>
    foreground(entry).reduce((sum, row) => sum + row[at[column]], 0) / area(entry);

  // One image

  function picture(entry, row, layer) {
    const title = report.layers[layer];
    const [short, long] = captions(entry, row, layer);
    const caption = make("figcaption", {}, title, make("span", {}, short));
    if (!entry.pictures[layer]) {
      const why = make("p", {}, layer === "ground_truth" ? "no ground truth" : "not kept from an earlier run");
      return figure(layer, make("div", { class: "stage none" }, why), make("figcaption", {}, title));
    }
    const alt = `${title} of ${entry.image_id}${long ? `: ${long}` : ""}`;
    const stage = make("div", { class: "stage" });
    if (layer === "image") {
      stage.append(make("img", { src: entry.pictures.image, alt }));
    } else {
      stage.append(make("img", { class: "under", src: entry.pictures.image, alt: "" }),
        make("img", { class: "layer", src: entry.pictures[layer], alt }));
    }
    return figure(layer, stage, caption);
  }

  function figure(layer, stage, caption) {
    const element = make("figure", { "data-layer": layer }, stage, caption);
    element.hidden = hidden.has(layer);
    return element;
  }

  function card(index) {
    const row = report.images[index];
    const block = byId(`image-${index}`);
    const title = make("h3", { id: `name-${index}` }, row.id);
    const article = make("article", { tabindex: "0", "aria-labelledby": `name-${index}` });
    // The page may be shown while the elements of later images still load
    if (!block) {
      article.append(title, make("p", { class: "empty" }, "loading …"));
      return article;
    }
    const entry = JSON.parse(block.textContent);
    const strip = make("div", { class: "strip" }, ...layers.map((layer) => picture(entry, row, layer)));
    strip.style.setProperty("--ratio", entry.image_shape[1] / entry.image_shape[0]);
    article.append(make("div", { class: "head" }, title,
      make("div", { class: "chips" }, ...chips(entry)),
      make("div", { class: "numbers" }, ...numbers(entry, row))), strip);
    return article;
  }

  // The page

  const pages = () => Math.max(1, Math.ceil(order.length / report.page));

  function show(wanted) {
    page = Math.min(Math.max(wanted, 0), pages() - 1);
    const first = page * report.page;
    const cards = order.slice(first, first + report.page).map(card);
    byId("cards").replaceChildren(...(cards.length ? cards : [make("p", { class: "empty" }, "No image matches.")]));
    const last = Math.min(first + report.page, order.length);
    const where = order.length ? `${(first + 1).toLocaleString("en")}–${last.toLocaleString("en")} of ${order.length.toLocaleString("en")}` : "0";
    for (const end of ["", "-below"]) {
      byId(`where${end}`).textContent = where;
      byId(`previous${end}`).disabled = page === 0;
      byId(`next${end}`).disabled = page === pages() - 1;
    }
  }

  // Smaller values come first; images without the figure come last
  const known = (value) => (image) => (image.after === null ? Infinity : value(image));
  const sorts = {
    changed: () => 0, // the order of report.images
    gain: known((image) => image.before - image.after),
    loss: known((image) => image.after - image.before),
    after: known((image) => image.after),
  };

  function comparison(wanted) {
    const images = report.images;
    const alphabet = new Intl.Collator("en", { numeric: true });
    if (wanted === "name") return (a, b) => alphabet.compare(images[a].id, images[b].id);
    const keys = images.map(sorts[wanted]);
    return (a, b) => (keys[a] === keys[b] ? a - b : keys[a] - keys[b]);
  }

  function choose() {
    const wanted = byId("class").value;
    const text = byId("find").value.trim().toLowerCase();
    const images = report.images;
    order = images.map((_, index) => index).filter((index) =>
      (wanted === "" || images[index].classes.includes(Number(wanted))) &&
      images[index].id.toLowerCase().includes(text));
    order.sort(comparison(byId("sort").value));
    show(0);
    say(`${order.length} images`);
  }

  function turn(step) {
    const target = page + step;
    if (target < 0 || target >= pages()) return;
    show(target);
    byId("images").scrollIntoView({ behavior: "instant" });
    say(`images ${byId("where").textContent}`);
  }

  function move(step) {
    const cards = [...document.querySelectorAll("article")];
    const current = cards.indexOf(document.activeElement?.closest("article"));
    let target = current < 0 ? (step > 0 ? 0 : cards.length - 1) : current + step;
    if (target < 0 || target >= cards.length) {
      if (page + step < 0 || page + step >= pages()) return;
      show(page + step);
      target = step > 0 ? 0 : document.querySelectorAll("article").length - 1;
    }
    const next = document.querySelectorAll("article")[target];
    next?.focus({ preventScroll: true, focusVisible: true });
    next?.scrollIntoView({ block: "start", behavior: "instant" });
  }

  // Overlays

  function setOverlay(mode) {
    document.body.dataset.overlay = mode;
    document.querySelector(`#overlay [value="${mode}"]`).checked = true;
    // Maps the alpha of regions, one half in the pictures, to the strength; outlines stay opaque
    const strength = mode === "plain" ? 1 : byId("strength").value / 100;
    byId("alpha").setAttribute("tableValues", `0 ${strength} 1`);
  }

  function nextOverlay() {
    const modes = ["over", "plain", "off"];
    const mode = modes[(modes.indexOf(document.body.dataset.overlay) + 1) % modes.length];
    setOverlay(mode);
    say(`overlay ${mode}`);
  }

  function strengthen(step) {
    byId("strength").value = Number(byId("strength").value) + step;
    setOverlay("over");
  }

  function toggle(layer) {
    if (!layer) return;
    if (!hidden.delete(layer)) hidden.add(layer);
    const shown = !hidden.has(layer);
    document.querySelector(`#columns [data-layer="${layer}"]`).setAttribute("aria-pressed", String(shown));
    for (const element of document.querySelectorAll(`figure[data-layer="${layer}"]`)) element.hidden = !shown;
    document.body.style.setProperty("--shown", String(Math.max(1, layers.length - hidden.size)));
    say(`${report.layers[layer]} ${shown ? "shown" : "hidden"}`);
  }

  // Keys

  const keys = {
    ArrowRight: () => move(1), j: () => move(1),
    ArrowLeft: () => move(-1), k: () => move(-1),
    n: () => turn(1), p: () => turn(-1),
    o: nextOverlay,
    "+": () => strengthen(10), "=": () => strengthen(10), "-": () => strengthen(-10),
    "/": () => byId("find").focus(),
    "?": () => byId("help").showModal(),
  };
  for (let number = 1; number <= 9; number += 1) keys[number] = () => toggle(layers[number - 1]);

  document.addEventListener("keydown", (event) => {
    const field = event.target.closest?.("input, select");
    const typing = field && !(field.type === "radio" || field.type === "range");
    if (event.ctrlKey || event.metaKey || event.altKey || typing || byId("help").open) return;
    // Arrows move the slider and the radio buttons
    if (field && event.key.startsWith("Arrow")) return;
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  // Start

  layers.forEach((layer, index) => {
    const button = make("button", { type: "button", "data-layer": layer, "aria-pressed": "true" },
      make("kbd", { "aria-hidden": "true" }, String(index + 1)), report.layers[layer]);
    button.addEventListener("click", () => toggle(layer));
    byId("columns").append(button);
  });
  const present = new Set(report.images.flatMap((image) => image.classes));
  for (const value of [...present].sort((a, b) => a - b)) {
    byId("class").append(make("option", { value }, className(value)));
  }
  for (const option of document.querySelectorAll("[data-scored]")) option.hidden = option.disabled = !scored;
  for (const id of ["sort", "class"]) byId(id).addEventListener("change", choose);
  byId("find").addEventListener("input", choose);
  byId("strength").addEventListener("input", () => setOverlay("over"));
  byId("overlay").addEventListener("change", (event) => setOverlay(event.target.value));
  byId("open-help").addEventListener("click", () => byId("help").showModal());
  for (const end of ["", "-below"]) {
    byId(`previous${end}`).addEventListener("click", () => turn(-1));
    byId(`next${end}`).addEventListener("click", () => turn(1));
  }
  document.body.style.setProperty("--shown", String(layers.length));
  document.querySelector(".pager.end").hidden = order.length <= report.page;
  byId("view").hidden = false;
  setOverlay("over");
  show(0);
  // Show the cards again that were shown before their elements had loaded
  document.addEventListener("DOMContentLoaded", () => {
    if (document.querySelector("article .empty")) show(page);
  });
})();

// One image, large: zoom, layers, figures, decision.
const viewer = (() => {
  const STEP = 1.4;
  const PAN = 60;
  const FLIP = 4;

  const byId = dom.byId;
  let index = null;
  let entry = null;
  let view = null;
  let look = null;
  let calls = null;
  let only = null;
  let isFull = false;

  const image = () => report.images[index];
  const size = () => [image().shape[1], image().shape[0]];
  const screen = () => [byId("stage").clientWidth, byId("stage").clientHeight];

  // Where the image lies

  const draw = dom.oncePerFrame(() => {
    if (index === null) return;
    const [width, height] = size();
    const sheet = byId("sheet");
    sheet.style.width = `${width}px`;
    sheet.style.height = `${height}px`;
    sheet.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    sheet.classList.toggle("sharp", isFull && view.scale > 2.5);
    const place = { x: view.x, y: view.y, width: width * view.scale, height: height * view.scale };
    if (entry) stage.draw(byId("overlay"), entry, { ...look, only }, place);
  });

  function setView(next) {
    view = next;
    byId("zoom-fit").disabled = byId("zoom-out").disabled = zoom.isFit(view, size(), screen());
    calls.moved(zoom.toPlace(view, size(), screen()));
    draw();
  }

  const zoomBy = (factor, x = screen()[0] / 2, y = screen()[1] / 2) =>
    setView(zoom.by(view, factor, x, y, size(), screen()));
  const panBy = (dx, dy) => setView(zoom.pan(view, dx, dy, size(), screen()));
  const fit = () => setView(zoom.fit(size(), screen()));

  function oneToOne(x = screen()[0] / 2, y = screen()[1] / 2) {
    zoomBy(1 / (devicePixelRatio || 1) / view.scale, x, y);
  }

  const flip = (x, y) => (zoom.isFit(view, size(), screen()) ? zoomBy(FLIP, x, y) : fit());

  // What is under the pointer

  async function point(x, y) {
    const reading = byId("reading");
    const [across, down] = x === null ? [-1, -1] : [(x - view.x) / view.scale / size()[0], (y - view.y) / view.scale / size()[1]];
    reading.hidden = !entry || across < 0 || down < 0 || across >= 1 || down >= 1;
    if (reading.hidden) return;
    const pixel = [Math.floor(across * size()[0]), Math.floor(down * size()[1])];
    const parts = await Promise.all(["masks", ...report.LABELS].map((layer) => valueAt(layer, across, down)));
    reading.textContent = [`${pixel[0]}, ${pixel[1]}`, ...parts.filter(Boolean)].join(" · ");
  }

  async function valueAt(layer, across, down) {
    const map = await report.map(entry, layer);
    if (!map) return "";
    const value = maps.at(map, across, down);
    if (layer === "masks") return value ? `mask ${value}: IoU ${entry.mask_scores[value - 1].toFixed(2)}` : "no mask";
    const name = value === colours.NO_CLASS ? "no class" : report.className(value);
    return `${{ pseudo_label: "pseudo", label: "refined", ground_truth: "truth" }[layer]} ${name}`;
  }

  // The image at full size, where its file is there; the small picture until then

  function load() {
    const [small, full] = [byId("small"), byId("full")];
    const wanted = index;
    isFull = false;
    small.src = entry?.picture ?? "";
    full.hidden = true;
    full.onload = () => {
      if (index !== wanted) return;
      const isSame = full.naturalWidth === size()[0] && full.naturalHeight === size()[1];
      full.hidden = !isSame;
      isFull = isSame;
      missing(isSame ? "" : "The image file has another size than the label: the small picture is shown.");
      draw();
    };
    full.onerror = () => {
      if (index === wanted) missing("The image file is not there, or of a kind that browsers do not show: the small picture is shown.");
    };
    if (image().image_link) full.src = image().image_link;
    else full.removeAttribute("src");
    missing(image().image_link ? "" : "The image file was not there when this page was made: the small picture is shown.");
  }

  function missing(text) {
    byId("viewer-missing").hidden = !text;
    byId("viewer-missing").textContent = text;
  }

  // What is said of the image

  function legendRow(swatch, name, figure) {
    return [swatch, dom.make("span", {}, name), dom.make("span", { class: "soft" }, figure)];
  }

  function classButton(row) {
    const value = row[report.at.class];
    const button = dom.make("button", { type: "button", "aria-pressed": String(only === value) },
      ...legendRow(figures.swatch(value), report.className(value), figures.beforeAfter(entry, row)));
    button.addEventListener("click", () => {
      only = only === value ? null : value;
      legend();
      draw();
    });
    return button;
  }

  // What the colours of the layer mean; a class can be shown alone
  function legend() {
    const kinds = report.DIFFERENCES[look.layer];
    byId("legend-title").textContent = kinds ? "Differences" : "Classes";
    if (kinds) {
      byId("viewer-classes").replaceChildren(...kinds.map((name, position) =>
        dom.make("p", {}, ...legendRow(figures.swatch(position + 1, "difference"), name, ""))));
      return;
    }
    const rows = (entry ? figures.foreground(entry) : []).filter((row) => row[report.at.class] !== colours.NO_CLASS);
    byId("viewer-classes").replaceChildren(...(rows.length ? rows.map(classButton) : ["background only"]));
  }

  function texts() {
    byId("viewer-name").textContent = image().id;
    const order = calls.order();
    byId("viewer-position").textContent = order.includes(index) ? `${order.indexOf(index) + 1} of ${order.length}` : "";
    byId("previous").disabled = order.indexOf(index) <= 0;
    byId("next").disabled = order.indexOf(index) >= order.length - 1;
    const pairs = entry ? figures.ofEntry(image(), entry) : figures.ofImage(image());
    byId("viewer-figures").replaceChildren(...pairs.map(([name, value, tone]) =>
      dom.make("div", {}, dom.make("dt", {}, name), dom.make("dd", { class: tone || null }, value))));
    for (const role of ["image", "label"]) {
      const link = byId(`${role}-link`);
      link.hidden = !image()[`${role}_link`];
      if (!link.hidden) link.href = image()[`${role}_link`];
    }
    for (const button of document.querySelectorAll("#viewer-layers button, #viewer-lines button")) {
      const { layer } = button.dataset;
      button.disabled = layer !== "none" && entry !== null && !report.isThere(entry, layer);
    }
  }

  function mark() {
    if (index === null) return;
    const { decision, note } = calls.decision(index);
    for (const name of ["accept", "reject"]) byId(name).setAttribute("aria-pressed", String(decision === name));
    if (document.activeElement !== byId("note")) byId("note").value = note;
    byId("viewer").dataset.decision = decision;
    const earlier = calls.earlier(index);
    byId("viewer-earlier").hidden = !earlier;
    byId("viewer-earlier").textContent = earlier
      ? `An earlier label of this image: ${earlier.decision || "undecided"}${earlier.note ? `, “${earlier.note}”` : ""}` : "";
  }

  function describe() {
    const layer = report.layers.find((each) => each.id === look.layer);
    const words = entry ? figures.inWords(entry, look.layer) : "";
    byId("stage").setAttribute("aria-label", `${image().id}, ${layer.title}${words ? `: ${words}` : ""}`);
    byId("shown-layer").textContent = layer.title;
  }

  function show(next, place = null) {
    index = next;
    entry = report.entry(index);
    only = null;
    byId("reading").hidden = true;
    if (!byId("viewer").open) {
      byId("viewer").showModal();
      byId("stage").focus({ preventScroll: true });
    }
    texts();
    legend();
    load();
    mark();
    describe();
    reveal();
    setView(zoom.ofPlace(place, size(), screen()));
  }

  // Shows what was still loading when the image was opened
  function loaded() {
    if (index !== null && entry === null) show(index, zoom.toPlace(view, size(), screen()));
  }

  function close() {
    index = entry = null;
    byId("full").removeAttribute("src");
    if (byId("viewer").open) byId("viewer").close();
  }

  // On a phone, the layers are a row wider than the screen
  function reveal() {
    const row = byId("viewer-layers");
    const chosen = row.querySelector("[aria-pressed=true]");
    if (chosen) row.scrollLeft = chosen.offsetLeft - row.offsetLeft - (row.clientWidth - chosen.offsetWidth) / 2;
  }

  function setLook(next) {
    const isRelabelled = look?.layer !== next.layer;
    look = next;
    for (const button of byId("viewer-layers").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.layer === look.layer));
    }
    for (const button of byId("viewer-lines").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(look.lines.includes(button.dataset.layer)));
    }
    byId("viewer-opacity").value = Math.round(100 * look.opacity);
    if (index === null) return;
    if (isRelabelled) legend();
    reveal();
    describe();
    draw();
  }

  // Choices

  function choices(id, wanted, choose) {
    report.layers.forEach((layer, position) => {
      if (!wanted(layer.id)) return;
      const button = dom.make("button", { type: "button", "data-layer": layer.id, "aria-pressed": "false" },
        dom.make("kbd", { "aria-hidden": "true" }, id === "viewer-lines" ? `⇧${position + 1}` : String(position + 1)), layer.title);
      button.addEventListener("click", () => choose(layer.id));
      byId(id).append(button);
    });
  }

  const keys = {
    "+": () => zoomBy(STEP), "=": () => zoomBy(STEP), "-": () => zoomBy(1 / STEP), 0: fit,
  };
  const moves = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] };

  // Whether a key was one of the viewer's own
  function key(event) {
    const act = event.shiftKey && moves[event.key] ? () => panBy(...moves[event.key]) : keys[event.key];
    if (act) act();
    return Boolean(act);
  }

  function start(given) {
    calls = given;
    choices("viewer-layers", () => true, calls.layer);
    choices("viewer-lines", (layer) => report.LABELS.includes(layer) || layer === "masks", calls.line);
    gestures.listen(byId("stage"), {
      zoom: zoomBy, pan: panBy, point, flip, hold: calls.hold,
      swipe: (step) => { if (zoom.isFit(view, size(), screen())) calls.step(step); },
    });
    for (const [id, act] of Object.entries({
      close: calls.close, previous: () => calls.step(-1), next: () => calls.step(1),
      "zoom-in": () => zoomBy(STEP), "zoom-out": () => zoomBy(1 / STEP), "zoom-fit": fit, "zoom-one": () => oneToOne(),
      accept: () => calls.decide(index, "accept"), reject: () => calls.decide(index, "reject"),
    })) byId(id).addEventListener("click", act);
    byId("viewer-opacity").addEventListener("input", (event) => calls.opacity(Number(event.target.value)));
    byId("note").addEventListener("input", (event) => calls.note(index, event.target.value.trim()));
    byId("viewer").addEventListener("close", () => { if (index !== null) calls.close(); });
    new ResizeObserver(() => { if (index !== null) setView(zoom.clamp(view, size(), screen())); }).observe(byId("stage"));
  }

  return { start, show, loaded, close, setLook, mark, key, isOpen: () => index !== null, index: () => index };
})();

// One image, large: zoom, layers, decision.
const viewer = (() => {
  // Factor of a step of zooming, and of a double click; pixels of a step of moving
  const STEP = 1.4;
  const FLIP = 4;
  const PAN = 60;
  // Screen pixels per pixel of the file from which each is drawn as a square
  const SQUARES = 2.5;

  const { byId } = dom;
  let index = null;
  let entry = null;
  let view = null;
  let look = null;
  let calls = null;
  // The class that is shown alone
  let only = null;

  const image = () => report.images[index];
  const size = () => [image().shape[1], image().shape[0]];
  const screen = () => [byId("stage").clientWidth, byId("stage").clientHeight];
  const centre = () => screen().map((side) => side / 2);

  // Where the image lies

  const draw = dom.oncePerFrame(() => {
    if (index === null) return;
    const [width, height] = size();
    const sheet = byId("sheet");
    sheet.style.width = `${width}px`;
    sheet.style.height = `${height}px`;
    sheet.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    sheet.classList.toggle("sharp", source.isFull() && view.scale > SQUARES);
    const place = { x: view.x, y: view.y, width: width * view.scale, height: height * view.scale };
    if (entry) stage.draw(byId("overlay"), entry, { ...look, only }, place);
  });

  function setView(next) {
    view = next;
    byId("zoom-fit").disabled = byId("zoom-out").disabled = isFit();
    calls.moved(zoom.toPlace(view, size(), screen()));
    draw();
  }

  const isFit = () => zoom.isFit(view, size(), screen());
  const zoomBy = (factor, [x, y] = centre()) =>
    setView(zoom.by(view, factor, x, y, size(), screen()));
  const panBy = (dx, dy) => setView(zoom.pan(view, dx, dy, size(), screen()));
  const fit = () => setView(zoom.fit(size(), screen()));
  const oneToOne = () => zoomBy(1 / (devicePixelRatio || 1) / view.scale);

  async function point(x, y) {
    const asked = entry;
    if (!asked) return;
    const [width, height] = size();
    const along = (at, from, side) => (x === null ? -1 : (at - from) / view.scale / side);
    const text = await reading.at(asked, along(x, view.x, width), along(y, view.y, height));
    if (entry !== asked) return;
    byId("reading").hidden = !text;
    byId("reading").textContent = text;
  }

  // What is shown

  function legend() {
    panel.legend(entry, look.layer, only, (value) => {
      only = value;
      legend();
      draw();
    });
  }

  function mark() {
    if (index !== null) panel.decision(calls.decision(index), calls.earlier(index));
  }

  function describe() {
    const layer = report.layers.find((each) => each.id === look.layer);
    const words = entry ? figures.inWords(entry, look.layer) : "";
    const spoken = `${image().id}, ${layer.title}${words ? `: ${words}` : ""}`;
    byId("stage").setAttribute("aria-label", spoken);
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
    panel.facts(image(), entry);
    panel.position(index, calls.order());
    panel.offer(entry);
    panel.reveal();
    legend();
    mark();
    describe();
    source.load(image(), entry?.picture ?? "", draw);
    const order = calls.order();
    source.prepare(report.images[order[order.indexOf(index) + 1]]);
    setView(zoom.ofPlace(place, size(), screen()));
  }

  // Shows what was still loading when the image was opened
  function loaded() {
    if (index !== null && entry === null) show(index, zoom.toPlace(view, size(), screen()));
  }

  function close() {
    index = entry = null;
    source.drop();
    if (byId("viewer").open) byId("viewer").close();
  }

  function setLook(next) {
    const isRelabelled = look?.layer !== next.layer;
    look = next;
    panel.press(look);
    if (index === null) return;
    if (isRelabelled) {
      legend();
      describe();
      panel.reveal();
    }
    draw();
  }

  // What the reader does

  const keys = {
    "+": () => zoomBy(STEP),
    "=": () => zoomBy(STEP),
    "-": () => zoomBy(1 / STEP),
    0: fit,
  };
  const moves = {
    ArrowLeft: () => panBy(PAN, 0),
    ArrowRight: () => panBy(-PAN, 0),
    ArrowUp: () => panBy(0, PAN),
    ArrowDown: () => panBy(0, -PAN),
  };

  // Acts on a key if it is one of the viewer's own, and says whether it was
  function key(event) {
    const act = index === null ? null : (event.shiftKey && moves[event.key]) || keys[event.key];
    act?.();
    return Boolean(act);
  }

  const buttons = () => ({
    close: calls.close,
    previous: () => calls.step(-1),
    next: () => calls.step(1),
    "zoom-in": keys["+"],
    "zoom-out": keys["-"],
    "zoom-fit": fit,
    "zoom-one": oneToOne,
    accept: () => calls.decide(index, "accept"),
    reject: () => calls.decide(index, "reject"),
  });

  function listen() {
    gestures.listen(byId("stage"), {
      zoom: (factor, x, y) => zoomBy(factor, [x, y]),
      pan: panBy,
      point,
      flip: (x, y) => (isFit() ? zoomBy(FLIP, [x, y]) : fit()),
      hold: calls.hold,
      swipe: (by) => isFit() && calls.step(by),
    });
    for (const [id, act] of Object.entries(buttons())) byId(id).addEventListener("click", act);
    byId("viewer-opacity").addEventListener("input", ({ target }) => calls.opacity(target.value));
    byId("note").addEventListener("input", ({ target }) => calls.note(index, target.value.trim()));
    // The browser itself closes it when Esc is pressed
    byId("viewer").addEventListener("close", () => index !== null && calls.close());
    new ResizeObserver(() => {
      if (index !== null) setView(zoom.clamp(view, size(), screen()));
    }).observe(byId("stage"));
  }

  function start(given) {
    calls = given;
    panel.choices("viewer-layers", "", () => true, calls.layer);
    panel.choices("viewer-lines", "⇧", report.hasOutlines, calls.line);
    listen();
  }

  const isOpen = () => index !== null;
  return { start, show, loaded, close, setLook, mark, key, isOpen, index: () => index };
})();

// The images as cards: drawn when they come near the screen, emptied when they are far from it.
const gallery = (() => {
  const MARGIN = "600px 0px";
  // Cards that are added at a time, before the reader comes to the end of those that are there
  const CHUNK = 120;
  const LAYERS_OF_STEPS = ["none", ...Object.keys(report.layersOf)];
  const cards = [];
  let order = [];
  let count = 0;
  // The card that Tab goes to
  let roved = null;
  let look = null;
  let view = "grid";
  let calls = null;

  const root = () => dom.byId("cards");
  const indexOf = (card) => Number(card.dataset.index);

  // One picture: the image, and a canvas over it

  function frame(image, layer) {
    const [height, width] = image.shape;
    const element = dom.make("span", { class: "frame", "data-layer": layer });
    element.style.setProperty("--ratio", width / height);
    element.classList.add(width / height > 4 / 3 ? "broad" : "tall");
    element.append(dom.make("img", { alt: "" }), dom.make("canvas", { "aria-hidden": "true" }));
    return dom.make("span", { class: "mat" }, element);
  }

  function captioned(image, layer) {
    const title = report.layers.find((each) => each.id === layer).title;
    return dom.make(
      "span",
      { class: "figure" },
      frame(image, layer),
      dom.make(
        "span",
        { class: "caption" },
        dom.make("span", {}, title),
        dom.make("span", { class: "soft" }),
      ),
    );
  }

  function pictures(image) {
    if (view === "grid") return [frame(image, "")];
    return LAYERS_OF_STEPS.map((layer) => captioned(image, layer));
  }

  function fill(card) {
    const image = report.images[indexOf(card)];
    const entry = report.entry(indexOf(card));
    if (!entry || card.dataset.filled) return;
    card.dataset.filled = "yes";
    card.querySelector(".open").replaceChildren(...pictures(image));
    for (const element of card.querySelectorAll(".frame")) {
      const layer = element.dataset.layer;
      element.querySelector("img").src = entry.picture;
      if (!layer) continue;
      const figure = element.closest(".figure");
      figure.classList.toggle("none", layer !== "none" && !entry.maps[layer]);
      figure.querySelector(".soft").textContent = entry.maps[layer]
        ? figures.inWords(entry, layer)
        : "";
    }
    paintCard(card);
  }

  function clear(card) {
    if (!card.dataset.filled) return;
    delete card.dataset.filled;
    card.querySelector(".open").replaceChildren(...pictures(report.images[indexOf(card)]));
  }

  function paintCard(card) {
    const entry = card.dataset.filled && report.entry(indexOf(card));
    if (!entry) return;
    for (const element of card.querySelectorAll(".frame")) {
      const canvas = element.querySelector("canvas");
      const place = { x: 0, y: 0, width: canvas.clientWidth, height: canvas.clientHeight };
      const own = element.dataset.layer
        ? { ...look, layer: look.layer === "none" && look.isHeld ? "none" : element.dataset.layer }
        : look;
      stage.draw(canvas, entry, own, place);
    }
    const open = card.querySelector(".open");
    // In steps, its captions are its name
    if (view === "grid")
      open.setAttribute("aria-label", spoken(report.images[indexOf(card)], entry));
    else open.removeAttribute("aria-label");
  }

  function spoken(image, entry) {
    const layer = report.layers.find((each) => each.id === look.layer);
    const words = figures.inWords(entry, look.layer);
    return `Open ${image.id}. ${layer.title}${words ? `: ${words}` : ""}`;
  }

  // One card

  function decideButton(index, decision, sign, name) {
    const button = dom.make(
      "button",
      {
        type: "button",
        class: decision,
        "aria-pressed": "false",
        "aria-label": `${name} ${report.images[index].id}`,
        title: name,
      },
      sign,
    );
    button.addEventListener("click", () => calls.decide(index, decision));
    return button;
  }

  function chips(image) {
    const named = image.classes.filter((value) => value !== colours.NO_CLASS);
    return named.map((value) =>
      dom.make("span", {}, figures.swatch(value), report.className(value)),
    );
  }

  function make(index) {
    const image = report.images[index];
    const open = dom.make(
      "button",
      { type: "button", class: "open", "aria-label": view === "grid" && `Open ${image.id}` },
      ...pictures(image),
    );
    open.addEventListener("click", () => calls.open(index));
    const numbers = figures
      .ofImage(image)
      .map(([name, value, tone]) =>
        dom.make("span", {}, `${name} `, dom.make("strong", { class: tone || null }, value)),
      );
    const card = dom.make(
      "article",
      { "data-index": index, tabindex: "-1", "aria-labelledby": `name-${index}` },
      open,
      dom.make("h2", { id: `name-${index}`, title: image.id }, image.id),
      dom.make(
        "span",
        { class: "marks" },
        dom.make("span", { class: "noted" }),
        decideButton(index, "accept", "✓", "Accept"),
        decideButton(index, "reject", "✗", "Reject"),
      ),
      dom.make("p", { class: "numbers" }, ...numbers),
      dom.make("p", { class: "chips" }, ...chips(image)),
    );
    for (const button of card.querySelectorAll("button")) button.tabIndex = -1;
    card.addEventListener("focusin", () => rove(card));
    return card;
  }

  // Tab goes through one card's controls, arrows go from card to card
  function rove(card) {
    roved?.classList.remove("current");
    for (const button of roved?.querySelectorAll("button") ?? []) button.tabIndex = -1;
    roved = card;
    card.classList.add("current");
    for (const button of card.querySelectorAll("button")) button.tabIndex = 0;
  }

  function mark(index) {
    const card = cards[index];
    if (!card) return;
    const { decision, note } = calls.decision(index);
    card.dataset.decision = decision;
    for (const name of ["accept", "reject"]) {
      card.querySelector(`.marks .${name}`).setAttribute("aria-pressed", String(decision === name));
    }
    const noted = card.querySelector(".noted");
    noted.textContent = note ? "✎" : "";
    noted.title = note;
  }

  const near = new IntersectionObserver(
    (changes) => {
      for (const { target, isIntersecting } of changes) (isIntersecting ? fill : clear)(target);
    },
    { rootMargin: MARGIN },
  );

  // All cards

  function cardOf(index) {
    if (!cards[index]) {
      cards[index] = make(index);
      mark(index);
    }
    return cards[index];
  }

  // Adds cards up to a position in the order, at least
  function grow(position) {
    const next = order.slice(count, Math.ceil((position + 1) / CHUNK) * CHUNK).map(cardOf);
    count += next.length;
    root().append(...next);
    for (const card of next) near.observe(card);
    dom.byId("end").hidden = count >= order.length;
  }

  const atEnd = new IntersectionObserver(
    (changes) => {
      if (changes.some((change) => change.isIntersecting) && count < order.length) grow(count);
    },
    { rootMargin: MARGIN },
  );

  function show(wanted) {
    // What is there already keeps its place and the focus
    if (root().hasChildNodes() && String(order) === String(wanted)) return;
    order = wanted;
    count = 0;
    near.disconnect();
    root().replaceChildren(
      ...(order.length ? [] : [dom.make("p", { class: "empty" }, "No image matches.")]),
    );
    grow(0);
    if (order.length) rove(cards[order[0]]);
    // Observed again, since it tells of changes only
    atEnd.disconnect();
    atEnd.observe(dom.byId("end"));
  }

  // Draws again what is near the screen, for another layer, opacity or palette
  const repaint = dom.oncePerFrame(() => {
    for (const card of root().querySelectorAll("article[data-filled]")) paintCard(card);
  });

  function setLook(next) {
    look = next;
    repaint();
  }

  function setView(next) {
    if (view === next) return;
    view = next;
    root().dataset.view = next;
    for (const card of root().querySelectorAll("article[data-filled]")) {
      delete card.dataset.filled;
      fill(card);
    }
  }

  const current = () => {
    const card = document.activeElement?.closest?.("article") ?? roved;
    return card?.isConnected ? indexOf(card) : null;
  };

  function focus(index) {
    if (!order.includes(index)) return;
    grow(order.indexOf(index));
    const card = cards[index];
    rove(card);
    card.focus({ preventScroll: true, focusVisible: true });
    card.scrollIntoView({ block: "nearest", behavior: "instant" });
  }

  // Number of cards beside each other
  const across = () => getComputedStyle(root()).gridTemplateColumns.split(" ").length;

  function move(step) {
    const isHere = document.activeElement?.closest?.("article");
    const from = order.indexOf(current());
    const target = isHere ? from + step : Math.max(from, 0);
    if (target >= 0 && target < order.length) focus(order[target]);
  }

  // Fills cards whose elements had not loaded yet
  const loaded = () => {
    for (const card of cards.filter(Boolean)) {
      near.unobserve(card);
      if (card.isConnected) near.observe(card);
    }
  };

  function start(given, firstLook) {
    calls = given;
    look = firstLook;
    root().dataset.view = view;
    new ResizeObserver(repaint).observe(root());
  }

  return {
    start,
    show,
    setLook,
    setView,
    mark,
    focus,
    move,
    across,
    current,
    loaded,
    order: () => order,
  };
})();

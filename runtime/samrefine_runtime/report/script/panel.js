// What is said of the open image, beside it.
const panel = (() => {
  const { byId, make } = dom;

  const legendRow = (swatch, name, figure) => [
    swatch,
    make("span", {}, name),
    make("span", { class: "soft" }, figure),
  ];

  function classButton(entry, row, only, choose) {
    const value = row[report.at.class];
    const figure = figures.beforeAfter(entry, row);
    const button = make(
      "button",
      { type: "button", "aria-pressed": String(only === value) },
      ...legendRow(figures.swatch(value), report.className(value), figure),
    );
    button.addEventListener("click", () => choose(only === value ? null : value));
    return button;
  }

  function kindRow(name, position) {
    return make("p", {}, ...legendRow(figures.swatch(position + 1, "difference"), name, ""));
  }

  // What the colours of the layer mean; `choose` leaves one class alone, `only`, or all
  function legend(entry, layer, only, choose) {
    const kinds = report.DIFFERENCES[layer];
    byId("legend-title").textContent = kinds ? "Differences" : "Classes";
    const named = (entry ? figures.foreground(entry) : []).filter(
      (row) => row[report.at.class] !== colours.NO_CLASS,
    );
    const rows = kinds?.map(kindRow) ?? named.map((row) => classButton(entry, row, only, choose));
    byId("viewer-classes").replaceChildren(...(rows.length ? rows : ["background only"]));
  }

  function facts(image, entry) {
    byId("viewer-name").textContent = image.id;
    const pairs = entry ? figures.ofEntry(image, entry) : figures.ofImage(image);
    const rows = pairs.map(([name, value, tone]) =>
      make("div", {}, make("dt", {}, name), make("dd", { class: tone || null }, value)),
    );
    byId("viewer-figures").replaceChildren(...rows);
    for (const role of ["image", "label"]) {
      const link = byId(`${role}-link`);
      link.hidden = !image[`${role}_link`];
      if (!link.hidden) link.href = image[`${role}_link`];
    }
  }

  // Where the image is among those that are listed
  function position(index, order) {
    const place = order.indexOf(index);
    byId("viewer-position").textContent = place < 0 ? "" : `${place + 1} of ${order.length}`;
    byId("previous").disabled = place <= 0;
    byId("next").disabled = place < 0 || place >= order.length - 1;
  }

  function decision({ decision, note }, earlier) {
    for (const name of ["accept", "reject"]) {
      byId(name).setAttribute("aria-pressed", String(decision === name));
    }
    // What is being typed stays
    if (document.activeElement !== byId("note")) byId("note").value = note;
    byId("viewer-earlier").hidden = !earlier;
    if (!earlier) return;
    const quoted = earlier.note ? `, “${earlier.note}”` : "";
    byId("viewer-earlier").textContent =
      `An earlier label of this image: ${earlier.decision || "undecided"}${quoted}`;
  }

  // Buttons of layers

  function choices(id, sign, wanted, choose) {
    report.layers.forEach((layer, position) => {
      if (!wanted(layer.id)) return;
      const button = make(
        "button",
        { type: "button", "data-layer": layer.id, "aria-pressed": "false" },
        make("kbd", { "aria-hidden": "true" }, `${sign}${position + 1}`),
        layer.title,
      );
      button.addEventListener("click", () => choose(layer.id));
      byId(id).append(button);
    });
  }

  function offer(entry) {
    for (const button of document.querySelectorAll("#viewer-layers button, #viewer-lines button")) {
      const { layer } = button.dataset;
      button.disabled = layer !== "none" && entry !== null && !report.isThere(entry, layer);
    }
  }

  function press(look) {
    for (const [id, isOn] of [
      ["viewer-layers", (layer) => layer === look.layer],
      ["viewer-lines", (layer) => look.lines.includes(layer)],
    ]) {
      for (const button of byId(id).querySelectorAll("button")) {
        button.setAttribute("aria-pressed", String(isOn(button.dataset.layer)));
      }
    }
    byId("viewer-opacity").value = Math.round(100 * look.opacity);
  }

  // On a phone, the layers are a row wider than the screen
  function reveal() {
    const row = byId("viewer-layers");
    const button = row.querySelector("[aria-pressed=true]");
    if (!button) return;
    row.scrollLeft =
      button.offsetLeft - row.offsetLeft - (row.clientWidth - button.offsetWidth) / 2;
  }

  return { legend, facts, position, decision, choices, offer, press, reveal };
})();

// The page's data: its index, the entry of each image, and the layers that can be drawn of it.
const report = (() => {
  const data = JSON.parse(dom.byId("report").textContent);
  // Where a row of entry.pixels has which count
  const at = Object.fromEntries(data.columns.map((name, index) => [name, index]));
  // Entries of images near the screen; others are read again from their element
  const MOST_ENTRIES = 150;
  const entries = new Map();

  const has = (layer) => layer in data.layers;
  const layers = [
    { id: "none", title: "Image only" },
    ...["cam", "masks", "pseudo_label", "label"]
      .filter(has)
      .map((id) => ({ id, title: data.layers[id] })),
    ...(has("pseudo_label") ? [{ id: "changes", title: "Changes" }] : []),
    ...(has("ground_truth")
      ? [
          { id: "ground_truth", title: data.layers.ground_truth },
          { id: "errors", title: "Errors" },
        ]
      : []),
  ];
  const LABELS = ["pseudo_label", "label", "ground_truth"];
  // Layers that are made of two others, and what their values 1, 2, 3 mean
  const PAIRS = { changes: ["pseudo_label", "label"], errors: ["ground_truth", "label"] };
  const DIFFERENCES = {
    changes: ["added", "removed", "another class"],
    errors: ["too much", "missing", "another class"],
  };

  // null while the element of the image still loads
  function entry(index) {
    if (!entries.has(index)) {
      const element = dom.byId(`image-${index}`);
      if (!element) return null;
      entries.set(index, JSON.parse(element.textContent));
      if (entries.size > MOST_ENTRIES) entries.delete(entries.keys().next().value);
    }
    return entries.get(index);
  }

  // 1 where only the second has a class, 2 only the first, 3 both, and they differ
  function difference(before, after) {
    if (before === after || before === colours.NO_CLASS) return 0;
    if (before === 0) return 1;
    return after === 0 ? 2 : 3;
  }

  const hasOutlines = (layer) => layer === "masks" || LABELS.includes(layer);
  const isThere = (entry, layer) => (PAIRS[layer] ?? [layer]).every((name) => name in entry.maps);

  // The decoded map of a layer, null where the image has none
  async function map(entry, layer) {
    if (!isThere(entry, layer)) return null;
    if (!PAIRS[layer]) return maps.decode(entry.maps[layer]);
    const key = `${layer} map`;
    entry[key] ??= Promise.all(PAIRS[layer].map((name) => maps.decode(entry.maps[name]))).then(
      ([first, second]) => maps.combine(first, second, difference),
    );
    return entry[key];
  }

  const ofClass = (palette) => (value) =>
    colours.ofClass(data.palettes, palette, data.patterns.length, value);

  // How a layer is drawn; `only` leaves one class
  function style(layer, palette, opacity, only, masks) {
    if (layer === "masks") return paint.style(masks + 1, colours.ofMask, opacity);
    if (layer in PAIRS) return paint.style(colours.differences, colours.ofDifference, opacity);
    const isShown = (value) => only === null || value === only;
    const table = paint.style(256, ofClass(palette), opacity, isShown);
    return isShown(colours.NO_CLASS) ? paint.withVoid(table, colours.NO_CLASS, opacity) : table;
  }

  const className = (value) => data.classes[value] ?? `class ${value}`;
  const scored = data.images.some((image) => image.after !== null);

  return {
    ...data,
    at,
    layers,
    layersOf: data.layers,
    LABELS,
    DIFFERENCES,
    entry,
    hasOutlines,
    isThere,
    map,
    style,
    className,
    scored,
  };
})();

// Figures in words: of an image, and of a class in it.
const figures = (() => {
  // A smaller gain is printed as 0.0 points, so it is neither up nor down
  const LEAST_GAIN = 0.0005;
  // Classes that are named of a CAM, as many as its picture shows
  const STRONGEST = 3;
  // Side of a swatch, pixels: twice what the page shows, for dense screens
  const SWATCH = 28;

  const percent = (fraction) => `${(100 * fraction).toFixed(fraction < 0.1 ? 1 : 0)}%`;
  const points = (fraction) => (100 * fraction).toFixed(1);
  const signed = (fraction) => `${fraction < 0 ? "−" : "+"}${points(Math.abs(fraction))}`;
  const tone = (gain) => (Math.abs(gain) < LEAST_GAIN ? "same" : gain > 0 ? "up" : "down");

  const { at } = report;
  const area = (entry) => entry.image_shape[0] * entry.image_shape[1];
  const foreground = (entry) => entry.pixels.filter((row) => row[at.class] > 0);

  function iou(row, label) {
    const hits = row[at[`hit_${label}`]];
    const union = row[at.truth] + row[at[`pred_${label}`]] - hits;
    return union > 0 ? hits / union : null;
  }

  // Before and after of a class in an image: its IoU, or its part of the pixels without ground truth
  function beforeAfter(entry, row) {
    const values = ["before", "after"].map((label) =>
      entry.scored ? iou(row, label) : row[at[label]] / area(entry),
    );
    return values
      .map((value) => (value === null ? "–" : entry.scored ? points(value) : percent(value)))
      .join(" → ");
  }

  // A square in the colour and pattern of a class or, for a layer of differences, of its kind
  function swatch(value, kind = "class") {
    const element = dom.make("span", { class: "swatch", "aria-hidden": "true" });
    element.style.backgroundImage = `var(--${kind}-${value})`;
    return element;
  }

  // Draws the squares anew: all swatches of the page follow
  function recolour(palette) {
    const canvas = dom.make("canvas", { width: SWATCH, height: SWATCH });
    const present = new Set(report.images.flatMap((image) => image.classes));
    for (const value of present)
      drawSwatch(canvas, `--class-${value}`, value, report.style("label", palette, 1, null, 0));
    for (const value of [1, 2, 3])
      drawSwatch(
        canvas,
        `--difference-${value}`,
        value,
        report.style("changes", palette, 1, null, 0),
      );
  }

  function drawSwatch(canvas, name, value, table) {
    const context = canvas.getContext("2d");
    const picture = context.createImageData(SWATCH, SWATCH);
    paint.regions(
      new Uint32Array(picture.data.buffer),
      SWATCH,
      SWATCH,
      { width: 1, height: 1, values: [value] },
      { x: 0, y: 0, width: SWATCH, height: SWATCH },
      table,
    );
    context.putImageData(picture, 0, 0);
    document.documentElement.style.setProperty(name, `url(${canvas.toDataURL()})`);
  }

  // The figures that order images: [name, value, tone]
  function ofImage(image) {
    const found = [];
    if (image.after !== null) {
      const gain = image.after - image.before;
      found.push(
        ["mIoU", `${points(image.before)} → ${points(image.after)}`, ""],
        ["gain", signed(gain), tone(gain)],
      );
    }
    if (image.changed !== null) found.push(["changed", percent(image.changed), ""]);
    if (image.confidence !== null) found.push(["confidence", percent(image.confidence), ""]);
    return found;
  }

  function strongest(entry) {
    const known = Object.entries(entry.probabilities)
      .sort((a, b) => b[1] - a[1])
      .slice(0, STRONGEST);
    return known
      .map(([value, probability]) => `${report.className(value)} ${percent(probability)}`)
      .join(", ");
  }

  // Those, and what only the entry knows
  function ofEntry(image, entry) {
    const [height, width] = image.shape;
    return [
      ...ofImage(image),
      ...(strongest(entry) ? [["classifier", strongest(entry), ""]] : []),
      ...(entry.mask_scores ? [["masks", String(entry.mask_scores.length), ""]] : []),
      ...(entry.seconds === null ? [] : [["time", `${entry.seconds.toFixed(1)} s`, ""]]),
      ["size", `${width} × ${height}`, ""],
    ];
  }

  // What a layer shows, for those who do not see it
  function inWords(entry, layer) {
    const column = { pseudo_label: "before", label: "after", ground_truth: "truth" }[layer];
    if (layer === "cam") return strongest(entry) || "no class";
    if (layer === "masks") return `${entry.mask_scores.length} masks`;
    if (!column) return "";
    const rows = foreground(entry).filter((row) => row[at[column]] > 0);
    return (
      rows
        .map(
          (row) => `${report.className(row[at.class])} ${percent(row[at[column]] / area(entry))}`,
        )
        .join(", ") || "background only"
    );
  }

  return { foreground, beforeAfter, swatch, recolour, ofImage, ofEntry, inWords };
})();

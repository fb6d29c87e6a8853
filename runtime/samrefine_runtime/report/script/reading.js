// What lies under a point of an image, in words.
const reading = (() => {
  const NAMES = { pseudo_label: "pseudo", label: "refined", ground_truth: "truth" };

  async function partOf(entry, layer, across, down) {
    const map = await report.map(entry, layer);
    if (!map) return "";
    const value = maps.at(map, across, down);
    if (layer !== "masks") {
      return `${NAMES[layer]} ${value === colours.NO_CLASS ? "no class" : report.className(value)}`;
    }
    return value ? `mask ${value}: IoU ${entry.mask_scores[value - 1].toFixed(2)}` : "no mask";
  }

  // `across` and `down` are fractions of the image's sides; "" beside the image
  async function at(entry, across, down) {
    if (across < 0 || down < 0 || across >= 1 || down >= 1) return "";
    const [height, width] = entry.image_shape;
    const layers = ["masks", ...report.LABELS];
    const parts = await Promise.all(layers.map((layer) => partOf(entry, layer, across, down)));
    const pixel = `${Math.floor(across * width)}, ${Math.floor(down * height)}`;
    return [pixel, ...parts.filter(Boolean)].join(" · ");
  }

  return { at };
})();

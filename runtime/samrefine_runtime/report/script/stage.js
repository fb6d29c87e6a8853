// Draws the chosen layers of an image into a canvas that lies over it.
const stage = (() => {
  // Width of an outline, pixels of the page
  const OUTLINE = 1.5;
  // More dots per pixel cost time and show nothing more
  const MOST_DENSITY = 2;
  const latest = new WeakMap();
  const density = () => Math.min(devicePixelRatio || 1, MOST_DENSITY);

  function drawHeat(context, map, place, opacity) {
    const small = dom.make("canvas", { width: map.width, height: map.height });
    const picture = new ImageData(map.width, map.height);
    map.values.forEach((level, index) => picture.data.set(report.heat[level], 4 * index));
    small.getContext("2d").putImageData(picture, 0, 0);
    context.globalAlpha = opacity;
    context.imageSmoothingQuality = "high";
    context.drawImage(small, place.x, place.y, place.width, place.height);
    context.globalAlpha = 1;
  }

  // `look` is {layer, lines: [layer, ...], opacity: 0 to 1, colours, only: a class or null}; `place`
  // is where the image lies, {x, y, width, height} in pixels of the page
  async function draw(canvas, entry, look, place) {
    const turn = (latest.get(canvas) ?? 0) + 1;
    latest.set(canvas, turn);
    const [map, ...lines] = await Promise.all(
      [look.layer, ...look.lines].map((layer) => report.map(entry, layer)),
    );
    // Drop what was overtaken while the maps were decoded
    if (latest.get(canvas) !== turn) return;
    const scale = density();
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) =>
      Math.round(side * scale),
    );
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height)
      Object.assign(canvas, { width, height });
    const scaled = Object.fromEntries(
      Object.entries(place).map(([name, value]) => [name, value * scale]),
    );
    const context = canvas.getContext("2d");
    const picture = context.createImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer);
    const options = { reach: Math.round(OUTLINE * scale), silent: colours.NO_CLASS };
    if (map && look.layer !== "cam") {
      const masks = entry.mask_scores?.length ?? 0;
      const table = report.style(look.layer, look.colours, look.opacity, look.only, masks);
      paint.regions(
        pixels,
        width,
        height,
        map,
        scaled,
        table,
        look.layer === "masks" ? { reach: options.reach } : options,
      );
    }
    for (const line of lines.filter(Boolean))
      paint.outlines(pixels, width, height, line, scaled, options);
    context.putImageData(picture, 0, 0);
    if (map && look.layer === "cam") drawHeat(context, map, scaled, look.opacity);
  }

  return { draw };
})();

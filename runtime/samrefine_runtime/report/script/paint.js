// Draws a map as tinted, patterned, outlined regions: in the pixels of the screen, so that outlines
// and patterns keep their size at any zoom.
const paint = (() => {
  const OUTSIDE = 0xffff;
  // A pattern's marks in a tile of TILE x TILE pixels, in the order of PATTERNS: sparse, since the
  // image below must stay visible
  const TILE = 14;
  const MARKS = [
    () => false,
    (x, y) => (x + y) % TILE < 3,
    (x, y) => (x - 6.5) ** 2 + (y - 6.5) ** 2 < 10,
    (x, y) => x < 2 || y < 2,
    (x, y) => (x + y) % TILE < TILE / 2,
  ].map((isMark) =>
    Uint8Array.from({ length: TILE * TILE }, (_, index) =>
      Number(isMark(index % TILE, Math.floor(index / TILE))),
    ),
  );
  const VOID_MARKS = MARKS[MARKS.length - 1];
  // Opacity of marks, as a power of the region's: a little more, and none where that has none
  const MARK_OPACITY = 0.6;
  // Pixels of no class are striped light and dark
  const VOID = [
    [235, 235, 240],
    [70, 70, 80],
  ];

  const packed = ([red, green, blue], alpha) =>
    ((Math.round(255 * alpha) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  const CASING = packed([0, 0, 0], 0.65);
  const DASH = packed([255, 255, 255], 1);

  // One entry per value of a map: what is drawn inside, as marks of its pattern, and around it.
  // `styleOf` gives {rgb, mark, line, pattern}; `isShown` which values are drawn at all.
  function style(count, styleOf, opacity, isShown = () => true) {
    const table = {
      fill: new Uint32Array(count),
      mark: new Uint32Array(count),
      line: new Uint32Array(count),
      tile: new Array(count).fill(MARKS[0]),
    };
    for (let value = 1; value < count; value += 1) {
      if (!isShown(value)) continue;
      const { rgb, mark, line, pattern } = styleOf(value);
      table.fill[value] = packed(rgb, opacity);
      table.mark[value] = packed(mark, opacity ** MARK_OPACITY);
      table.line[value] = packed(line, 1);
      table.tile[value] = MARKS[pattern];
    }
    return table;
  }

  function withVoid(table, value, opacity) {
    table.fill[value] = packed(VOID[0], opacity);
    table.mark[value] = packed(VOID[1], opacity);
    table.line[value] = 0;
    table.tile[value] = VOID_MARKS;
    return table;
  }

  // The map's value at each pixel of a picture, OUTSIDE beside the image. `place` is where the
  // image lies in the picture: {x, y, width, height} in its pixels.
  function sample(map, width, height, place) {
    const columns = new Int32Array(width).map((_, x) =>
      Math.floor(((x + 0.5 - place.x) / place.width) * map.width),
    );
    const found = new Uint16Array(width * height).fill(OUTSIDE);
    for (let y = 0; y < height; y += 1) {
      const row = Math.floor(((y + 0.5 - place.y) / place.height) * map.height);
      if (row < 0 || row >= map.height) continue;
      for (let x = 0; x < width; x += 1) {
        const column = columns[x];
        if (column >= 0 && column < map.width)
          found[y * width + x] = map.values[row * map.width + column];
      }
    }
    return found;
  }

  // Whether another region is at most `reach` pixels away along an axis
  function isEdge(found, index, x, y, width, height, reach, silent) {
    const value = found[index];
    const differs = (other) => other !== value && other !== OUTSIDE && other !== silent;
    for (let step = 1; step <= reach; step += 1) {
      if (
        (x >= step && differs(found[index - step])) ||
        (x + step < width && differs(found[index + step])) ||
        (y >= step && differs(found[index - step * width])) ||
        (y + step < height && differs(found[index + step * width]))
      )
        return true;
    }
    return false;
  }

  // Paints regions into `pixels`, the RGBA words of a picture. `silent`, void, has no outline: where
  // it borders objects, as in VOC's ground truth, it outlines them already.
  function regions(pixels, width, height, map, place, table, { reach = 1, silent = -1 } = {}) {
    const found = sample(map, width, height, place);
    for (let y = 0, index = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1, index += 1) {
        const value = found[index];
        if (value === OUTSIDE) continue;
        if (value !== silent && isEdge(found, index, x, y, width, height, reach, silent)) {
          // A dark line on the side of the background sets the bright one off on bright images
          pixels[index] = table.line[value] || CASING;
          if (table.line[value] || value === 0) continue;
        }
        const tile = table.tile[value];
        pixels[index] = tile[(y % TILE) * TILE + (x % TILE)]
          ? table.mark[value]
          : table.fill[value];
      }
    }
  }

  // Paints only the outlines of regions, inside them, dashed white and black
  function outlines(pixels, width, height, map, place, { reach = 1, silent = -1 } = {}) {
    const found = sample(map, width, height, place);
    for (let y = 0, index = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1, index += 1) {
        const value = found[index];
        if (value === 0 || value === OUTSIDE || value === silent) continue;
        if (!isEdge(found, index, x, y, width, height, reach, -1)) continue;
        pixels[index] = (x + y) % 12 < 7 ? DASH : CASING;
      }
    }
  }

  return { style, withVoid, regions, outlines };
})();

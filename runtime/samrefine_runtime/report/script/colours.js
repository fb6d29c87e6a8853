// Colours of classes, masks and differences, as [red, green, blue] and the number of a pattern.
const colours = (() => {
  const NO_CLASS = 255;
  // Steps of this fraction of a circle never come close to an earlier hue
  const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2;
  const OUTLINE = [255, 255, 255];
  // Part of white in outlines and marks of a distinct colour: they must stand out from the region
  const LIGHTER = 0.5;

  const lighter = (rgb) => rgb.map((channel) => Math.round(channel + LIGHTER * (255 - channel)));
  const patterned = (rgb, pattern) => ({ rgb, mark: lighter(rgb), line: lighter(rgb), pattern });
  const solid = (rgb) => ({ rgb, mark: rgb, line: OUTLINE, pattern: 0 });

  // Classes in the distinct palette differ in colour, then in pattern; VOC's 256 colours are solid
  function ofClass(palettes, name, patterns, value) {
    const palette = palettes[name];
    if (name === "voc") return solid(palette[value]);
    const rgb = palette[(value - 1) % palette.length];
    return patterned(rgb, Math.floor((value - 1) / palette.length) % patterns);
  }

  function ofMask(index) {
    const hue = ((index * GOLDEN_RATIO) % 1) * 6;
    const channel = (shift) => {
      const part = (shift + hue) % 6;
      return Math.round(255 - 200 * Math.max(0, Math.min(part, 4 - part, 1)));
    };
    return solid([channel(5), channel(3), channel(1)]);
  }

  // 1 a class where there was none, 2 none where there was one, 3 another class: see report.js
  const DIFFERENCES = [
    null,
    patterned([86, 180, 233], 0),
    patterned([230, 159, 0], 1),
    patterned([204, 121, 167], 2),
  ];
  const ofDifference = (value) => DIFFERENCES[value];

  return { NO_CLASS, ofClass, ofMask, ofDifference, differences: DIFFERENCES.length };
})();

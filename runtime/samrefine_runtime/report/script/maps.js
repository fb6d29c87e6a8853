// Maps: which class, mask or heat level each pixel has. See maps.py for how they are encoded.
const maps = (() => {
  const decoded = new WeakMap();
  // Browsers from 2023 on
  const canDecode = typeof DecompressionStream === "function";

  function bytesOf(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let index = 0; index < text.length; index += 1) bytes[index] = text.charCodeAt(index);
    return bytes;
  }

  async function inflate(bytes) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // Each row was XORed with the row above it
  function undoRows(plane, width) {
    for (let index = width; index < plane.length; index += 1) plane[index] ^= plane[index - width];
    return plane;
  }

  async function read(map) {
    const [height, width] = map.shape;
    const bytes = await inflate(bytesOf(map.data));
    const low = undoRows(bytes.subarray(0, width * height), width);
    if (map.planes === 1) return { width, height, values: low };
    const high = undoRows(bytes.subarray(width * height), width);
    return {
      width,
      height,
      values: Uint16Array.from(low, (value, index) => value | (high[index] << 8)),
    };
  }

  // {width, height, values} of an encoded map; kept as long as the encoded one is
  function decode(map) {
    if (!decoded.has(map)) decoded.set(map, read(map));
    return decoded.get(map);
  }

  // A map made of two others, pixel by pixel
  function combine(first, second, value) {
    const values = Uint8Array.from(first.values, (each, index) =>
      value(each, second.values[index]),
    );
    return { ...first, values };
  }

  // The value at a point, given in fractions of the image's sides
  function at(map, across, down) {
    const column = Math.min(Math.floor(across * map.width), map.width - 1);
    return map.values[Math.min(Math.floor(down * map.height), map.height - 1) * map.width + column];
  }

  return { canDecode, decode, combine, at };
})();

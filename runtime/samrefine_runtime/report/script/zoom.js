// Where an image lies on the screen: {scale, x, y}, screen pixels per image pixel, and the image's
// left upper corner. Images and screens are [width, height].
const zoom = (() => {
  // Screen pixels per image pixel at most: enough to see single pixels of a label
  const MOST = 40;

  const fitScale = (image, screen) => Math.min(screen[0] / image[0], screen[1] / image[1]);

  function fit(image, screen) {
    const scale = fitScale(image, screen);
    return { scale, x: (screen[0] - scale * image[0]) / 2, y: (screen[1] - scale * image[1]) / 2 };
  }

  // The nearest view that leaves no needless empty space
  function clamp(view, image, screen) {
    const least = fitScale(image, screen);
    const scale = Math.min(Math.max(view.scale, least), Math.max(MOST, least));
    const along = (at, axis) => {
      const spare = screen[axis] - scale * image[axis];
      return spare >= 0 ? spare / 2 : Math.min(0, Math.max(spare, at));
    };
    return { scale, x: along(view.x, 0), y: along(view.y, 1) };
  }

  // Keeps the image's point under (x, y) where it is
  function by(view, factor, x, y, image, screen) {
    const least = fitScale(image, screen);
    const scale = Math.min(Math.max(view.scale * factor, least), Math.max(MOST, least));
    const ratio = scale / view.scale;
    return clamp(
      { scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio },
      image,
      screen,
    );
  }

  const pan = (view, dx, dy, image, screen) =>
    clamp({ ...view, x: view.x + dx, y: view.y + dy }, image, screen);

  const isFit = (view, image, screen) => view.scale <= fitScale(image, screen) * 1.001;

  // A view that means the same on every screen: how many times fitted, and the fraction of the
  // image's sides that is at the centre; null for the whole image
  function toPlace(view, image, screen) {
    if (isFit(view, image, screen)) return null;
    return [
      view.scale / fitScale(image, screen),
      (screen[0] / 2 - view.x) / view.scale / image[0],
      (screen[1] / 2 - view.y) / view.scale / image[1],
    ];
  }

  function ofPlace(place, image, screen) {
    if (!place) return fit(image, screen);
    const scale = fitScale(image, screen) * place[0];
    return clamp(
      {
        scale,
        x: screen[0] / 2 - place[1] * image[0] * scale,
        y: screen[1] / 2 - place[2] * image[1] * scale,
      },
      image,
      screen,
    );
  }

  return { fit, by, pan, clamp, isFit, toPlace, ofPlace };
})();

// Which images are listed, in which order. An address may ask for what there is not.
const listing = (() => {
  // Smaller keys come first; images without the figure come last
  const known = (figure, key) => (image) => (image[figure] === null ? Infinity : key(image));
  const SORTS = {
    changed: known("changed", (image) => -image.changed),
    confidence: known("confidence", (image) => image.confidence),
    gain: known("after", (image) => image.before - image.after),
    loss: known("after", (image) => image.after - image.before),
    after: known("after", (image) => image.after),
  };
  const SHOWN = {
    all: () => true,
    undecided: ({ decision }) => !decision,
    accept: ({ decision }) => decision === "accept",
    reject: ({ decision }) => decision === "reject",
    note: ({ note }) => note !== "",
  };
  const chosen = (table, name, fallback) => table[Object.hasOwn(table, name) ? name : fallback];

  function comparison(images, sort) {
    const alphabet = new Intl.Collator("en", { numeric: true });
    if (sort === "name") return (a, b) => alphabet.compare(images[a].id, images[b].id);
    const keys = images.map(chosen(SORTS, sort, "changed"));
    return (a, b) => (keys[a] === keys[b] ? a - b : keys[a] - keys[b]);
  }

  // Indices of all images in their order
  const sorted = (images, sort) => images.map((_, index) => index).sort(comparison(images, sort));

  // Those that are asked for; `decisionOf` gives {decision, note} of an index
  function of(images, { sort, show, class: value, find }, decisionOf) {
    const text = find.trim().toLowerCase();
    const isShown = chosen(SHOWN, show, "all");
    return sorted(images, sort).filter(
      (index) =>
        isShown(decisionOf(index)) &&
        (value === "" || images[index].classes.includes(Number(value))) &&
        images[index].id.toLowerCase().includes(text),
    );
  }

  return { sorted, of };
})();

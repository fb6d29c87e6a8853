// The open image's picture: its own file at full size where that is there, else the small one.
const source = (() => {
  const SHOWN = "the small picture is shown.";
  const UNKNOWN = `The image file was not there when this page was made: ${SHOWN}`;
  const BROKEN = `The image file is not there, or of a kind that browsers do not show: ${SHOWN}`;
  const OTHER = `The image file has another size than the label: ${SHOWN}`;
  const { byId } = dom;
  const next = new Image();

  function tell(text) {
    byId("viewer-missing").hidden = !text;
    byId("viewer-missing").textContent = text;
  }

  // Whether the picture on the screen is the file
  const isFull = () => !byId("full").hidden;

  // `changed` is called when the file is there. Setting another address drops what is under way
  function load(image, picture, changed) {
    const full = byId("full");
    byId("small").src = picture;
    full.hidden = true;
    full.onload = () => {
      const [height, width] = image.shape;
      full.hidden = full.naturalWidth !== width || full.naturalHeight !== height;
      tell(full.hidden ? OTHER : "");
      changed();
    };
    full.onerror = () => tell(BROKEN);
    tell(image.image_link ? "" : UNKNOWN);
    if (image.image_link) full.src = image.image_link;
    else full.removeAttribute("src");
  }

  // Has the browser fetch the file of an image that is likely to be opened next
  function prepare(image) {
    if (image?.image_link) next.src = image.image_link;
  }

  const drop = () => byId("full").removeAttribute("src");

  return { load, prepare, drop, isFull };
})();

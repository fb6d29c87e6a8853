// Elements of the page. Text enters as text nodes and attributes only, never as markup, which names
// of files and classes could hold.
const dom = (() => {
  const byId = (id) => document.getElementById(id);

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== false) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  // What a screen reader says of a change that the eye sees anyway
  const say = (text) => {
    byId("said").textContent = text;
  };

  // Calls `work` once in the next frame, however often it is asked for until then
  function oncePerFrame(work) {
    let asked = false;
    return () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        work();
      });
    };
  }

  return { byId, make, say, oncePerFrame };
})();

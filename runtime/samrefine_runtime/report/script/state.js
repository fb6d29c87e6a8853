// What is shown, kept in the address after "#": a link or the back button brings it back.
const state = (() => {
  const DEFAULTS = {
    image: "",
    sort: "changed",
    show: "all",
    class: "",
    find: "",
    view: "grid",
    layer: "label",
    lines: "",
    opacity: "60",
    colours: "distinct",
    at: "",
  };
  const LOOK = ["layer", "lines", "opacity", "colours"];
  // Chromium allows about 7 changes of the address per second
  const DELAY = 250;

  let current = read();
  let waiting = 0;

  function read() {
    const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    const known = Object.entries(given).filter(([name]) => name in DEFAULTS);
    return { ...DEFAULTS, ...Object.fromEntries(known) };
  }

  function address() {
    const changed = Object.entries(current).filter(([name, value]) => value !== DEFAULTS[name]);
    const hash = new URLSearchParams(changed).toString();
    return hash ? `#${hash}` : location.pathname + location.search;
  }

  function write() {
    waiting = 0;
    history.replaceState(history.state, "", address());
  }

  function set(change) {
    Object.assign(current, change);
    waiting ||= setTimeout(write, DELAY);
  }

  // A change that the back button undoes
  function push(change) {
    if (waiting) {
      clearTimeout(waiting);
      write();
    }
    Object.assign(current, change);
    history.pushState({ pushed: true }, "", address());
  }

  // Closes the open image. What opening it has put into the history goes away again
  function leave() {
    if (history.state?.pushed) history.back();
    else set({ image: "", at: "" });
  }

  // Calls `apply` when the back button or a new address changes what is shown
  function listen(apply) {
    const again = () => {
      clearTimeout(waiting);
      waiting = 0;
      const before = current;
      current = read();
      // Layers that were chosen on an image stay when it is closed
      if (before.image && !current.image) {
        set(Object.fromEntries(LOOK.map((name) => [name, before[name]])));
      }
      apply();
    };
    addEventListener("popstate", again);
  }

  return { get: () => current, set, push, leave, listen };
})();

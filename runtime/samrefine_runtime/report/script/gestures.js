// Mouse, touch and pen on an element, as calls of zoom(factor, x, y), pan(dx, dy), point(x, y) or
// point(null), swipe(step), flip(x, y), in pixels of the element, and hold(true), hold(false).
const gestures = (() => {
  const PIXELS_PER_LINE = 16;
  // Speed of the wheel; with Ctrl it is a touchpad's pinch, whose steps are small
  const WHEEL = 0.0018;
  const PINCH = 0.01;
  // Movement up to which a touch is a tap, and from which it is a swipe
  const TAP = 8;
  const SWIPE = 60;
  // Milliseconds after which a press that does not move is held
  const HOLD = 300;

  function listen(element, calls) {
    const down = new Map();
    let start = null;
    let holding = 0;
    const position = (event) => {
      const box = element.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };

    element.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const lines = event.deltaMode === 0 ? 1 : PIXELS_PER_LINE;
        calls.zoom(
          Math.exp(-event.deltaY * lines * (event.ctrlKey ? PINCH : WHEEL)),
          ...position(event),
        );
      },
      { passive: false },
    );

    element.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button !== 0) return;
      element.setPointerCapture(event.pointerId);
      down.set(event.pointerId, position(event));
      start = down.size === 1 ? { at: position(event), moved: 0 } : null;
      release();
      if (start) holding = setTimeout(() => calls.hold(true), HOLD);
    });

    element.addEventListener("pointermove", (event) => {
      const now = position(event);
      const before = down.get(event.pointerId);
      if (!before) {
        calls.point(...now);
        return;
      }
      const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
      if (other) pinch(before, now, other);
      else calls.pan(now[0] - before[0], now[1] - before[1]);
      if (start)
        start.moved = Math.max(start.moved, Math.hypot(now[0] - start.at[0], now[1] - start.at[1]));
      if (!start || start.moved >= TAP) release();
      down.set(event.pointerId, now);
    });

    function release() {
      clearTimeout(holding);
      calls.hold(false);
    }

    // Two fingers: the one that stays is the other end of the line that grows and moves
    function pinch(before, now, other) {
      const middle = (one) => [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2];
      const span = (one) => Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1]));
      const [from, to] = [middle(before), middle(now)];
      calls.zoom(span(now) / span(before), ...from);
      calls.pan(to[0] - from[0], to[1] - from[1]);
    }

    function up(event) {
      release();
      if (!down.delete(event.pointerId) || !start) return;
      const [x, y] = position(event);
      const across = x - start.at[0];
      if (start.moved < TAP) calls.point(x, y);
      else if (
        event.pointerType === "touch" &&
        Math.abs(across) > SWIPE &&
        Math.abs(across) > 2 * Math.abs(y - start.at[1])
      ) {
        calls.swipe(across < 0 ? 1 : -1);
      }
      start = null;
    }
    element.addEventListener("pointerup", up);
    element.addEventListener("pointercancel", (event) => {
      release();
      down.delete(event.pointerId);
      start = null;
    });
    element.addEventListener("contextmenu", (event) => {
      if (down.size) event.preventDefault();
    });
    element.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") calls.point(null);
    });
    element.addEventListener("dblclick", (event) => calls.flip(...position(event)));
  }

  // Calls `hold(true)` while a button is pressed, by pointer or key, and `hold(false)` after it
  function holdButton(button, hold) {
    button.addEventListener("pointerdown", (event) => {
      button.setPointerCapture(event.pointerId);
      hold(true);
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture", "blur"])
      button.addEventListener(end, () => hold(false));
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    const isPress = (event) => event.key === " " || event.key === "Enter";
    button.addEventListener("keydown", (event) => {
      if (isPress(event)) {
        event.preventDefault();
        hold(true);
      }
    });
    button.addEventListener("keyup", (event) => {
      if (isPress(event)) hold(false);
    });
  }

  return { listen, holdButton };
})();
